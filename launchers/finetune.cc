// bazel run //launchers:finetune -- --model_name_or_path DIR --train_files chats.jsonl ...
// Supervised fine-tuning of a chat model, whole or by an adapter. Without arguments: LoRA on the
// 135M chat model and a few chats.
#include <string>
#include <utility>

#include "lathe/base/runfiles.h"
#include "lathe/launchers/finetuning.h"
#include "lathe/launchers/run_config.pb.h"
#include "lathe/launchers/task_main.h"

namespace {

// What `bazel run //launchers:finetune` alone trains: under two minutes on two cores.
void SetDemonstration(const std::string& argv0, lathe::FinetuneConfig* config) {
  const auto bundled = [&](const char* path) { return lathe::RunfilePath(argv0, path); };
  config->mutable_model()->set_model_name_or_path(bundled("lathe/third_party/smollm2/model"));
  config->mutable_data()->add_train_files(
      bundled("lathe/launchers/examples/woodturning_chats.jsonl"));
  config->mutable_data()->set_max_length(256);
  config->mutable_peft()->set_peft_type("lora");
  config->mutable_peft()->set_lora_alpha(32);
  lathe::TrainingArguments* training = config->mutable_training();
  training->set_output_dir("finetune_demo");
  training->set_max_steps(30);
  training->set_per_device_train_batch_size(2);
  training->set_learning_rate(1e-3);
  training->set_logging_steps(5);
  training->add_report_to("tensorboard");
}

}  // namespace

int main(int argc, char** argv) {
  lathe::FinetuneConfig config;
  // TRL's.
  config.mutable_training()->set_learning_rate(2e-5);
  if (argc == 1) SetDemonstration(argv[0], &config);
  lathe::Finetuning task(std::move(config));
  lathe::TaskMain(argc, argv,
                  {.summary = "Fine-tunes a chat model, whole or by an adapter. Without arguments: "
                              "LoRA on a chat model of 135M parameters and a few chats.",
                   .example = "bazel run //launchers:finetune -- --model_name_or_path "
                              "SmolLM2-135M-Instruct --train_files chats.jsonl --peft_type lora "
                              "--output_dir out"},
                  task);
}
