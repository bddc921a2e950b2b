// bazel run //launchers:pretrain -- --config_name DIR --train_files a.jsonl ...
// Pretrains a causal language model, from scratch or from a model folder. Without arguments: a
// small Qwen2 on Jane Austen.
#include <string>
#include <utility>

#include "lathe/base/runfiles.h"
#include "lathe/launchers/pretraining.h"
#include "lathe/launchers/run_config.pb.h"
#include "lathe/launchers/task_main.h"

namespace {

// What `bazel run //launchers:pretrain` alone trains: under two minutes on two cores.
void SetDemonstration(const std::string& argv0, lathe::PretrainConfig* config) {
  const auto bundled = [&](const char* path) { return lathe::RunfilePath(argv0, path); };
  config->mutable_model()->set_config_name(bundled("lathe/launchers/tiny_qwen2"));
  config->mutable_data()->add_train_files(bundled("lathe/third_party/texts/austen/train.jsonl"));
  config->mutable_data()->add_validation_files(
      bundled("lathe/third_party/texts/austen/validation.jsonl"));
  config->mutable_data()->set_block_size(256);
  lathe::TrainingArguments* training = config->mutable_training();
  training->set_output_dir("pretrain_demo");
  training->set_max_steps(120);
  training->set_per_device_train_batch_size(4);
  training->set_learning_rate(2e-3);
  training->set_lr_scheduler_type("cosine");
  training->set_warmup_steps(10);
  training->set_weight_decay(0.1);
  training->set_logging_steps(10);
  training->set_save_steps(60);
  training->set_save_total_limit(2);
  training->set_do_eval(true);
  training->add_report_to("tensorboard");
}

}  // namespace

int main(int argc, char** argv) {
  lathe::PretrainConfig config;
  if (argc == 1) SetDemonstration(argv[0], &config);
  lathe::Pretraining task(std::move(config));
  lathe::TaskMain(argc, argv,
                  {.summary = "Pretrains a causal language model. Without arguments: a small Qwen2 "
                              "on Jane Austen's novels.",
                   .example = "bazel run //launchers:pretrain -- --config_name qwen-1.5b "
                              "--train_files text.jsonl --output_dir out"},
                  task);
}
