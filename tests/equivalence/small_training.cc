#include "lathe/tests/equivalence/small_training.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <stdexcept>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lathe/datasets/data_loader.h"
#include "lathe/datasets/dataset.h"
#include "lathe/layers/block_runner.h"
#include "lathe/layers/relative_error.h"
#include "lathe/models/auto_model.h"
#include "lathe/models/model_config.h"
#include "lathe/peft/lora/lora_injector.h"
#include "lathe/pipeline_parallel/partition.h"
#include "lathe/trainer/callback.h"
#include "lathe/trainer/causal_lm_loss.h"
#include "lathe/trainer/checkpointer.h"
#include "lathe/trainer/flow_callback.h"
#include "lathe/trainer/lr_schedule.h"
#include "lathe/trainer/trainer.h"
#include "lathe/trainer/training_plan.h"
#include "lathe/zero/unit_runner.h"
#include "lathe/zero/zero_optimizer.h"

namespace lathe {
namespace {

constexpr double kSgdEpsilon = 1e4;

// Any failure fails the test by an exception, which thread ranks pass on.
void Must(const absl::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.ToString());
}

template <typename T>
T Must(absl::StatusOr<T> value) {
  Must(value.status());
  return *std::move(value);
}

// Tokens that repeat with some period, so that there is something to learn; sample i has no labels
// in its first i mod 7 eighths.
class SmallDataset : public Dataset {
 public:
  SmallDataset(int num_samples, int num_tokens, int64_t vocab_size)
      : num_samples_(num_samples),
        num_tokens_(num_tokens),
        ids_(num_samples * num_tokens),
        labels_(ids_.size()) {
    for (int i = 0; i < num_samples; ++i) {
      for (int j = 0; j < num_tokens; ++j) {
        const int at = i * num_tokens + j;
        ids_[at] = (i * 37 + (j % (3 + i % 5)) * 61 + 5) % vocab_size;
        labels_[at] = j < i % 7 * num_tokens / 8 ? -100 : ids_[at];
      }
    }
  }
  int64_t size() const override { return num_samples_; }
  Sample Get(int64_t index) const override {
    return {absl::MakeConstSpan(ids_).subspan(index * num_tokens_, num_tokens_),
            absl::MakeConstSpan(labels_).subspan(index * num_tokens_, num_tokens_)};
  }

 private:
  const int num_samples_, num_tokens_;
  std::vector<int32_t> ids_, labels_;
};

std::map<std::string, std::vector<LogicalPiece>> Gradients(const ZeroOptimizer& optimizer) {
  std::map<std::string, std::vector<LogicalPiece>> gradients;
  for (const NamedTensor& tensor : optimizer.Gradients()) {
    std::vector<LogicalPiece>& pieces = gradients[tensor.name];
    for (const TensorPiece& piece : tensor.pieces) {
      pieces.push_back({piece.box, piece.local.cpu().clone()});
    }
  }
  return gradients;
}

// Keeps the gradients of step 1.
class FirstGradients : public Callback {
 public:
  FirstGradients(const ZeroOptimizer& optimizer, Outcome& outcome)
      : optimizer_(optimizer), outcome_(outcome) {}
  absl::Status OnStepEnd(const TrainerState& state, const StepInfo&, TrainerControl&) override {
    if (state.global_step == 1) outcome_.first_gradients = Gradients(optimizer_);
    return absl::OkStatus();
  }

 private:
  const ZeroOptimizer& optimizer_;
  Outcome& outcome_;
};

TrainingArguments Arguments(const SmallTraining& training) {
  TrainingArguments a;
  a.set_per_device_train_batch_size(training.batch_size);
  a.set_gradient_accumulation_steps(training.accumulation);
  a.set_max_steps(training.max_steps);
  a.set_learning_rate(training.sgd ? kSgdEpsilon : training.learning_rate);
  a.set_lr_scheduler_type("cosine");
  a.set_warmup_steps(2);
  a.set_weight_decay(training.sgd ? 0 : 0.1);
  a.set_max_grad_norm(training.max_grad_norm);
  a.set_logging_steps(1);
  a.set_save_strategy(training.output_dir.empty() ? "no" : "steps");
  a.set_save_steps(3);
  return a;
}

// Calls fn(part, the same part of the whole tensor) for the parts of a tensor that `a` has.
template <typename Fn>
void ForEachPart(const std::vector<LogicalPiece>& a, const at::Tensor& whole, const Fn& fn) {
  for (const LogicalPiece& piece : a) {
    at::Tensor part = whole;
    for (int dim = 0; dim < piece.logical.num_dims(); ++dim) {
      part = part.narrow(dim, piece.logical.offset[dim], piece.logical.length[dim]);
    }
    fn(piece.view, part);
  }
}

// max|a − b| / max|b| over the parts of a tensor that `a` has; `b` has the whole one.
double PartsError(const std::vector<LogicalPiece>& a, const std::vector<LogicalPiece>& b,
                  double floor) {
  const at::Tensor whole = b.at(0).view;
  floor = std::max(floor, whole.abs().max().item().toDouble());
  double worst = 0;
  ForEachPart(a, whole, [&](const at::Tensor& x, const at::Tensor& y) {
    worst = std::max(worst, RelativeError(x, y, floor));
  });
  return worst;
}

// |a − b| / |b| likewise.
double PartsErrorL2(const std::vector<LogicalPiece>& a, const std::vector<LogicalPiece>& b,
                    double floor) {
  const at::Tensor whole = b.at(0).view;
  double squares = 0;
  ForEachPart(a, whole, [&](const at::Tensor& x, const at::Tensor& y) {
    const double norm = x.sub(y).norm().item().toDouble();
    squares += norm * norm;
  });
  if (std::isnan(squares)) return HUGE_VAL;
  return std::sqrt(squares) / std::max(floor, whole.norm().item().toDouble());
}

// The folder's weights; an adapter's are drawn, of which B is not 0, as if it had been trained.
void LoadSmall(const std::string& folder, Stage& stage) {
  std::vector<NamedTensor> weights;
  for (Parameter* parameter : stage.parameters()) {
    NamedTensor tensor{.name = parameter->name(), .full_shape = parameter->full_shape()};
    for (LogicalPiece& piece : LogicalPieces(*parameter, parameter->tensor().detach())) {
      tensor.pieces.push_back({std::move(piece.logical), std::move(piece.view)});
    }
    if (!IsOwnParameter(parameter->name())) {
      weights.push_back(std::move(tensor));
      continue;
    }
    Parameter drawn(parameter->name(), parameter->full_shape(), parameter->shard(),
                    parameter->tensor().detach(), Initializer::Normal(0.05));
    drawn.Initialize(/*seed=*/5);
    parameter->tensor().detach().copy_(drawn.tensor().detach());
  }
  // Whatever other pipeline stages have is in the folder too.
  Must(LoadTensors(Must(ModelFiles::Open(folder)), weights,
                   {.surplus_ok = [](std::string_view) { return true; }}));
}

}  // namespace

Outcome TrainSmall(const ParallelContext& context, const SmallTraining& training) {
  const std::string folder = "tests/goldens/parity/models/" + training.model;
  const TrainingArguments a = Arguments(training);
  PlainRunner plain;
  RecomputeRunner recompute(plain);
  ZeroUnits units(training.units);
  UnitRunner runner(units, training.recompute ? static_cast<BlockRunner&>(recompute) : plain);
  ModelConfig config = Must(ReadModelConfig(folder));
  if (training.num_layers > 0) config.num_hidden_layers = training.num_layers;
  if (training.vocab_size > 0) config.vocab_size = training.vocab_size;
  const LayerFlops flops = FlopsPerToken(config, training.num_tokens);
  const LayerPartition partition =
      Must(PartitionLayers({.num_blocks = static_cast<int>(config.num_hidden_layers),
                            .block_cost = flops.block,
                            .head_cost = flops.head,
                            .num_ranks = context.mesh().size("pp"),
                            .num_layers_per_virtual_stage = training.num_layers_per_virtual_stage,
                            .layout = training.layout}));
  StageOptions options{.sequence_parallel = training.sequence_parallel,
                       .recompute_mlp = training.recompute_mlp,
                       .allocates = training.num_layers == 0,
                       .boundaries = partition.boundaries};
  std::optional<LoraInjector> lora;
  if (training.lora) {
    lora = Must(LoraInjector::Create(*training.lora));
    options.on_layer = [&lora](AdapterPoint& point) { lora->OnLayer(point); };
  }
  const auto stage = Must(BuildModel(config, context, training.dtype, runner, options));
  if (lora) lora->Freeze(stage->parameters());
  if (training.num_layers == 0) LoadSmall(folder, *stage);

  const Communicator& dp = context.Group({"dp"});
  const SmallDataset dataset(training.num_samples, training.num_tokens, config.vocab_size);
  LoaderOptions order{.batch_size = training.batch_size,
                      .seed = 3,
                      .shard_index = dp.rank(),
                      .num_shards = dp.size()};
  DataLoader train(dataset, order);
  // Batches of 3, by which 40 samples do not divide: the last ones are filled up, and must not
  // count twice.
  order.batch_size = 3;
  order.strategy = SamplingStrategy::kSequential;
  DataLoader eval(dataset, order);
  const TrainingPlan plan = Must(MakeTrainingPlan(a, train.num_batches()));
  const LrSchedule schedule = Must(LrSchedule::Create({.type = a.lr_scheduler_type(),
                                                       .num_warmup_steps = plan.warmup_steps,
                                                       .num_training_steps = plan.max_steps,
                                                       .learning_rate = a.learning_rate(),
                                                       .kwargs = ""}));
  ZeroOptimizer optimizer(
      stage->parameters(),
      {.stage = training.zero_stage,
       .rules = training.sgd ? AdamWRules({.beta1 = 0, .epsilon = kSgdEpsilon}) : training.rules,
       .weight_decay = a.weight_decay(),
       .max_grad_norm = a.max_grad_norm(),
       .reduce_bucket_elements = training.reduce_bucket_elements,
       .offload_states = training.offload_states,
       .offload_weights = training.offload_weights},
      context, &units);
  if (training.num_layers > 0) {
    optimizer.FillMasters(
        [](Parameter& p, const at::Tensor& values) { p.InitializeInto(values, /*seed=*/5); });
  }
  optimizer.AfterLoad();
  const std::unique_ptr<Checkpointer> checkpointer = Must(Checkpointer::Create(
      {.output_dir = training.output_dir, .weights = {.dtype = training.dtype}}, optimizer,
      context));
  FlowCallback flow(a);
  Outcome outcome;
  FirstGradients first_gradients(optimizer, outcome);
  CausalLmLoss loss;
  Trainer trainer(
      a, plan,
      {.stage = *stage,
       .loss = loss,
       .optimizer = optimizer,
       .schedule = schedule,
       .train = train,
       .eval = &eval,
       .checkpointer = *checkpointer,
       .context = context,
       .callbacks = {&flow, &first_gradients},
       .pipeline = {.schedule = training.schedule, .num_chunks = partition.num_chunks}});
  Must(trainer.Train(training.resume_from).status());

  for (const nlohmann::json& entry : trainer.state().log_history) {
    if (!entry.contains("loss")) continue;
    outcome.losses.push_back(entry["loss"]);
    outcome.grad_norms.push_back(entry["grad_norm"]);
    outcome.learning_rates.push_back(entry["learning_rate"]);
    outcome.epochs.push_back(entry["epoch"]);
  }
  outcome.eval_loss = Must(trainer.Evaluate())["eval_loss"];
  const GatheredParameters whole(units, stage->parameters());
  for (Parameter* parameter : stage->parameters()) {
    outcome.weights[parameter->name()] =
        LogicalPieces(*parameter, parameter->tensor().detach().cpu().clone());
  }
  outcome.gradients = Gradients(optimizer);
  return outcome;
}

Differences Difference(const Outcome& a, const Outcome& b) {
  Differences result;
  if (a.losses.size() != b.losses.size() || a.weights.empty()) {
    return {HUGE_VAL, HUGE_VAL, HUGE_VAL, HUGE_VAL, HUGE_VAL, HUGE_VAL};
  }
  const auto relative = [](double x, double y) {
    const double error = std::abs(x - y) / std::abs(y);
    return std::isnan(error) ? HUGE_VAL : error;  // std::max would pass over it
  };
  for (size_t i = 0; i < a.losses.size(); ++i) {
    result.losses = std::max(result.losses, relative(a.losses[i], b.losses[i]));
    result.grad_norms = std::max(result.grad_norms, relative(a.grad_norms[i], b.grad_norms[i]));
  }
  result.losses = std::max(result.losses, relative(a.eval_loss, b.eval_loss));
  // As everywhere in the project: a gradient's denominator is at least 1e-4 of the global norm.
  const double floor = 1e-4 * b.grad_norms.back();
  for (const auto& [name, parts] : a.weights) {
    result.weights = std::max(result.weights, PartsError(parts, b.weights.at(name), 0));
    const auto gradient = a.gradients.find(name);
    if (gradient == a.gradients.end()) continue;  // frozen
    result.gradients =
        std::max(result.gradients, PartsError(gradient->second, b.gradients.at(name), floor));
  }
  const double first_floor = 1e-4 * b.grad_norms.front();
  for (const auto& [name, parts] : a.first_gradients) {
    const std::vector<LogicalPiece>& whole = b.first_gradients.at(name);
    result.first_gradients =
        std::max(result.first_gradients, PartsError(parts, whole, first_floor));
    result.first_gradients_l2 =
        std::max(result.first_gradients_l2, PartsErrorL2(parts, whole, first_floor));
  }
  return result;
}

}  // namespace lathe
