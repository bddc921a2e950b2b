#include "lathe/launchers/trainer_builders.h"

#include <string>
#include <utility>

#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/base/logging.h"
#include "lathe/trainer/flow_callback.h"
#include "lathe/trainer/report_callbacks.h"
#include "lathe/trainer/training_arguments.h"

namespace lathe {
namespace {

// The folder of TensorBoard's files, "" for none.
std::string ReportFolder(const TrainingArguments& a) {
  const std::vector<std::string> targets = ReportTargets(a);
  if (targets.empty()) return "";
  const std::string folder = a.has_logging_dir()
                                 ? a.logging_dir()
                                 : absl::StrCat(a.output_dir(), "/runs/", TensorBoardRunName());
  for (const std::string& target : targets) {
    if (target == "tensorboard") continue;
    LOG(INFO) << "For " << target << ": TensorBoard's files are written; import them with "
              << (target == "swanlab" ? "'swanlab convert -t tensorboard --tb_logdir "
                                      : "'wandb sync ")
              << folder << "'";
  }
  return folder;
}

}  // namespace

absl::StatusOr<Loaders> BuildLoaders(const RunConfig& config, TaskData data,
                                     const ParallelContext& context) {
  const TrainingArguments& a = config.training();
  const Communicator& dp = context.Group({"dp"});
  ABSL_ASSIGN_OR_RETURN(const SamplingStrategy strategy,
                        ParseSamplingStrategy(a.train_sampling_strategy()));
  // Under sequence parallelism each tensor rank has an equal part of every sequence.
  const int64_t multiple =
      config.parallel().sequence_parallel() ? context.mesh().size("tp") : int64_t{1};
  Loaders loaders{.data = std::move(data)};
  loaders.train = std::make_unique<DataLoader>(
      *loaders.data.train,
      LoaderOptions{.batch_size = a.per_device_train_batch_size(),
                    .strategy = strategy,
                    .seed = static_cast<uint64_t>(a.has_data_seed() ? a.data_seed() : a.seed()),
                    .drop_last = a.dataloader_drop_last(),
                    .shard_index = dp.rank(),
                    .num_shards = dp.size(),
                    .prefetch_threads = a.dataloader_num_workers(),
                    .pad_id = loaders.data.pad_id,
                    .pad_to_multiple_of = multiple});
  if (loaders.data.eval == nullptr) return loaders;
  loaders.eval = std::make_unique<DataLoader>(
      *loaders.data.eval, LoaderOptions{.batch_size = a.per_device_eval_batch_size(),
                                        .strategy = SamplingStrategy::kSequential,
                                        .shard_index = dp.rank(),
                                        .num_shards = dp.size(),
                                        .pad_id = loaders.data.pad_id,
                                        .pad_to_multiple_of = multiple});
  return loaders;
}

std::vector<std::unique_ptr<Callback>> BuildCallbacks(const RunConfig& config,
                                                      const std::string& flags,
                                                      const ParallelContext& context,
                                                      double flops_per_token, double peak_flops) {
  const TrainingArguments& a = config.training();
  std::vector<std::unique_ptr<Callback>> callbacks;
  callbacks.push_back(std::make_unique<FlowCallback>(a));
  if (a.has_early_stopping_patience()) {
    callbacks.push_back(std::make_unique<EarlyStoppingCallback>(
        a.early_stopping_patience(), a.early_stopping_threshold(), MetricForBestModel(a),
        GreaterIsBetter(a)));
  }
  if (context.rank() != 0) return callbacks;
  if (config.parallel().log_communication()) {
    callbacks.push_back(std::make_unique<CommunicationCallback>(context));
  }
  callbacks.push_back(
      std::make_unique<ConsoleCallback>(!a.disable_tqdm(), flops_per_token, peak_flops));
  const std::string reports = ReportFolder(a);
  if (!reports.empty()) {
    callbacks.push_back(std::make_unique<TensorBoardCallback>(reports, flags));
  }
  return callbacks;
}

}  // namespace lathe
