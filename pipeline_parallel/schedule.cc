#include "lathe/pipeline_parallel/schedule.h"

#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "ATen/ops/empty.h"
#include "ATen/ops/zeros_like.h"
#include "c10/util/Exception.h"
#include "lathe/base/beacon.h"
#include "lathe/layers/meta_meter.h"
#include "lathe/pipeline_parallel/activation_specs.h"

namespace lathe {
namespace {

using Kind = Action::Kind;

const Communicator& GroupOf(const Pipeline& pipeline) {
  static const Communicator* const alone = new Communicator();
  return pipeline.group == nullptr ? *alone : *pipeline.group;
}

// Runs one rank's schedule.
class ScheduleRun {
 public:
  using OnLoss = std::function<void(int micro_batch, const at::Tensor& loss)>;

  // `trains`: forwards are recorded and backwards follow.
  ScheduleRun(ScheduledStage& stage, const Pipeline& pipeline, bool trains, OnLoss on_loss)
      : stage_(stage),
        group_(GroupOf(pipeline)),
        place_{group_.size(), group_.rank(), pipeline.num_chunks},
        device_(pipeline.device),
        // Read on the host in a rehearsal too (lathe/layers/meta_meter.h).
        message_device_(device_.is_meta() ? c10::Device(c10::kCPU) : device_),
        deferred_(pipeline.schedule == ScheduleKind::kZeroBubbleH1 ? pipeline.deferred : nullptr),
        trains_(trains),
        on_loss_(std::move(on_loss)) {}

  const PipelinePlace& place() const { return place_; }

  void Run(const Schedule& schedule) {
    if (!place_.IsFirst(0)) ReceiveInputSpecs();
    const size_t last_begins = StepsBeforeLastMicroBatch(schedule);
    PendingCollective arrival = Exchange(schedule.empty() ? Step{} : schedule[0]);
    for (size_t i = 0; i < schedule.size(); ++i) {
      arrival.Wait();
      for (const Action& action : schedule[i]) {
        if (trains_) stage_.Begin(action.micro_batch, i >= last_begins);
        Do(action);
      }
      arrival = Exchange(i + 1 < schedule.size() ? schedule[i + 1] : Step{});
    }
    for (const PendingCollective& exchange : exchanges_) exchange.Wait();
  }

 private:
  // What one micro batch has in one chunk between forward and backward.
  struct InFlight {
    TensorList inputs, outputs, output_grads;
    at::Tensor loss;
  };

  InFlight& At(const Action& action) { return in_flight_[{action.chunk, action.micro_batch}]; }

  // The steps from there on are of one micro batch in one chunk.
  static size_t StepsBeforeLastMicroBatch(const Schedule& schedule) {
    size_t begin = schedule.size();
    while (begin > 0) {
      for (const Action& action : schedule[begin - 1]) {
        const Action& last = schedule.back().back();
        if (action.micro_batch != last.micro_batch || action.chunk != last.chunk) return begin;
      }
      --begin;
    }
    return begin;
  }

  void Do(const Action& action) {
    switch (action.kind) {
      case Kind::kForward:
        return Forward(action);
      case Kind::kBackward:
        return Backward(action);
      case Kind::kInputGradient: {
        const size_t before = deferred_->size();
        Backward(action);
        num_deferred_.push_back(deferred_->size() - before);
        return;
      }
      case Kind::kWeightGradient:
        BeginPhase(Phase::kBackward);
        deferred_->RunFirst(num_deferred_.front());
        num_deferred_.pop_front();
        return;
    }
  }

  void Forward(const Action& action) {
    BeginPhase(trains_ ? Phase::kForward : Phase::kEvaluation);
    InFlight& mine = At(action);
    TensorList outputs = stage_.Forward(action.micro_batch, action.chunk, mine.inputs);
    if (place_.IsLast(action.chunk)) {
      mine.loss = stage_.Loss(action.micro_batch, outputs);
      on_loss_(action.micro_batch, mine.loss.detach());
    } else {
      SendOutputs(action, outputs);
      mine.outputs = std::move(outputs);
    }
    if (!trains_) in_flight_.erase({action.chunk, action.micro_batch});
  }

  void SendOutputs(const Action& action, TensorList& outputs) {
    const ActivationSpecs specs = SpecsOf(outputs);
    if (output_specs_.empty()) {
      output_specs_ = specs;
      // Chunk 0's boundary tells the next rank what is to come; those between chunks are alike.
      if (action.chunk == 0 && place_.rank + 1 < place_.num_ranks) {
        Post({{ToMessage(specs, message_device_), place_.rank + 1}}, {});
      }
    }
    bool fits = specs == output_specs_;
    for (const at::Tensor& output : outputs) {
      fits = fits && output.size(0) == stage_.NumSamples(action.micro_batch);
    }
    TORCH_CHECK(fits, "stage ", place_.Stage(action.chunk), ": micro batch ", action.micro_batch,
                " has activations of another shape or dtype than it says or the one before had");
    TORCH_CHECK(place_.num_chunks == 1 || input_specs_.empty() || specs == input_specs_, "stage ",
                place_.Stage(action.chunk),
                ": with several stages per rank activations must be alike between all stages");
    for (at::Tensor& output : outputs) {
      sends_.push_back({output.detach().contiguous(), place_.Destination(action)});
      // Backward needs the graph, not the data.
      if (trains_ && !output.is_leaf()) output.set_data(at::empty({0}, output.options()));
    }
  }

  void Backward(const Action& action) {
    BeginPhase(Phase::kBackward);
    InFlight mine = std::move(At(action));
    in_flight_.erase({action.chunk, action.micro_batch});
    if (place_.IsLast(action.chunk)) {
      RunBackward({mine.loss}, {{}});
    } else {
      RunBackward(mine.outputs, mine.output_grads);
    }
    if (place_.IsFirst(action.chunk)) return;
    for (const at::Tensor& input : mine.inputs) {
      if (!input.is_floating_point()) continue;
      at::Tensor grad = input.grad();
      // The stage before waits for a gradient even where this one has made none.
      if (!grad.defined()) grad = at::zeros_like(input);
      sends_.push_back({grad.contiguous(), place_.Destination(action)});
    }
  }

  void ReceiveInputSpecs() {
    at::Tensor message = EmptySpecsMessage(message_device_);
    group_.Exchange({}, {{message, place_.rank - 1}});
    input_specs_ = FromMessage(message);
  }

  // What `next` needs, in the order in which the neighbours send it.
  std::vector<Transfer> Receives(const Step& next) {
    std::vector<Transfer> receives;
    for (const Action& action : next) {
      if (!place_.Receives(action)) continue;
      const int source = place_.Source(action);
      const int64_t num_samples = stage_.NumSamples(action.micro_batch);
      if (action.kind == Kind::kForward) {
        // Rank 0 has no specs of its first chunk's inputs; those of its other chunks are like its
        // outputs.
        for (const ActivationSpec& spec : input_specs_.empty() ? output_specs_ : input_specs_) {
          at::Tensor input = EmptyActivation(spec, num_samples, device_);
          receives.push_back({input.detach(), source});
          At(action).inputs.push_back(
              input.set_requires_grad(trains_ && input.is_floating_point()));
        }
      } else {
        for (const ActivationSpec& spec : output_specs_) {
          at::Tensor grad;
          if (at::isFloatingType(spec.dtype)) {
            grad = EmptyActivation(spec, num_samples, device_);
            receives.push_back({grad, source});
          }
          At(action).output_grads.push_back(std::move(grad));
        }
      }
    }
    return receives;
  }

  // Sends what the last step made and receives what `next` needs. Returns what `next` must wait
  // for.
  PendingCollective Exchange(const Step& next) {
    std::vector<Transfer> receives = Receives(next);
    const bool waits = !receives.empty();
    if (sends_.empty() && !waits) return {};
    const PendingCollective exchange = Post(std::exchange(sends_, {}), std::move(receives));
    return waits ? exchange : PendingCollective();
  }

  PendingCollective Post(std::vector<Transfer> sends, std::vector<Transfer> receives) {
    exchanges_.push_back(group_.ExchangeAsync(std::move(sends), std::move(receives)));
    return exchanges_.back();
  }

  ScheduledStage& stage_;
  const Communicator& group_;
  const PipelinePlace place_;
  const c10::Device device_, message_device_;
  DeferringSink* const deferred_;
  const bool trains_;
  const OnLoss on_loss_;

  ActivationSpecs input_specs_;                        // from the rank before; empty on the first
  ActivationSpecs output_specs_;                       // empty until the first forward
  std::map<std::pair<int, int>, InFlight> in_flight_;  // by chunk and micro batch
  std::vector<Transfer> sends_;                        // made since the last exchange
  std::vector<PendingCollective> exchanges_;
  std::deque<size_t> num_deferred_;  // weight gradients per input gradient not yet followed up
};

}  // namespace

double ForwardBackward(ScheduledStage& stage, int num_micro_batches, const Pipeline& pipeline) {
  TORCH_CHECK(pipeline.schedule != ScheduleKind::kZeroBubbleH1 || pipeline.deferred != nullptr,
              "zb-h1 needs a sink that defers weight gradients");
  TORCH_CHECK(pipeline.num_chunks == 1 || pipeline.schedule == ScheduleKind::kInterleaved,
              "several stages per rank need the interleaved schedule");
  std::vector<at::Tensor> losses;
  ScheduleRun run(stage, pipeline, /*trains=*/true,
                  [&](int, const at::Tensor& loss) { losses.push_back(loss); });
  run.Run(MakeSchedule(pipeline.schedule, run.place(), num_micro_batches));
  double sum = 0;
  for (const at::Tensor& loss : losses) sum += ValueOf(loss);
  return sum;
}

void ForwardOnly(ScheduledStage& stage, int num_micro_batches, const Pipeline& pipeline,
                 const std::function<void(int, double)>& on_loss) {
  at::NoGradGuard no_grad;
  ScheduleRun run(stage, pipeline, /*trains=*/false,
                  [&](int i, const at::Tensor& loss) { on_loss(i, ValueOf(loss)); });
  run.Run(MakeForwardSchedule(run.place(), num_micro_batches));
}

}  // namespace lathe
