#include "lathe/trainer/training_arguments.h"

#include <limits>
#include <string>

#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TrainingArguments Arguments(const std::string& text) {
  TrainingArguments arguments;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &arguments)) << text;
  return arguments;
}

std::string Check(const std::string& text) {
  return std::string(CheckTrainingArguments(Arguments(text)).message());
}

TEST(CheckTrainingArgumentsTest, WhatCanWorkIsFine) {
  EXPECT_EQ(Check(""), "");
  EXPECT_EQ(Check("logging_strategy: 'epoch' logging_steps: 0"), "");
  EXPECT_EQ(Check("save_strategy: 'no' save_steps: 0"), "");
  EXPECT_EQ(Check("eval_strategy: 'steps'"), "");
  EXPECT_EQ(Check("eval_strategy: 'steps' eval_steps: 50 save_steps: 100 "
                  "load_best_model_at_end: true early_stopping_patience: 2"),
            "");
  EXPECT_EQ(Check("eval_strategy: 'steps' eval_steps: 0.1 save_steps: 0.3 "
                  "load_best_model_at_end: true"),
            "");
  EXPECT_EQ(Check("eval_strategy: 'epoch' save_strategy: 'epoch' load_best_model_at_end: true"),
            "");
  EXPECT_EQ(Check("eval_strategy: 'epoch' save_strategy: 'best' load_best_model_at_end: true"), "");
  EXPECT_EQ(Check("num_train_epochs: 0 max_steps: 5"), "");
}

TEST(CheckTrainingArgumentsTest, WhatCannotIsRefused) {
  EXPECT_EQ(Check("logging_steps: 0"), "--logging_strategy steps needs a --logging_steps above 0");
  EXPECT_EQ(Check("save_steps: 0"), "--save_strategy steps needs a --save_steps above 0");
  EXPECT_EQ(Check("eval_strategy: 'steps' logging_strategy: 'no' logging_steps: 0"),
            "--eval_strategy steps needs an --eval_steps or --logging_steps above 0");
  EXPECT_EQ(Check("load_best_model_at_end: true"),
            "--load_best_model_at_end needs an --eval_strategy other than no");
  EXPECT_EQ(Check("save_strategy: 'best'"),
            "--save_strategy best needs an --eval_strategy other than no");
  EXPECT_EQ(Check("eval_strategy: 'epoch' load_best_model_at_end: true"),
            "--load_best_model_at_end needs --save_strategy best, or equal strategies; got "
            "--eval_strategy epoch and --save_strategy steps");
  EXPECT_EQ(
      Check("eval_strategy: 'steps' eval_steps: 30 save_steps: 100 "
            "load_best_model_at_end: true"),
      "--load_best_model_at_end needs --save_steps (100) to be a multiple of --eval_steps (30)");
  EXPECT_EQ(Check("eval_strategy: 'steps' eval_steps: 0.2 save_steps: 0.3 "
                  "load_best_model_at_end: true"),
            "--load_best_model_at_end needs --save_steps (0.3) to be a multiple of --eval_steps "
            "(0.2)");
  EXPECT_EQ(Check("eval_strategy: 'steps' eval_steps: 0.1 save_steps: 100 "
                  "load_best_model_at_end: true"),
            "--load_best_model_at_end needs --save_steps (100) to be a multiple of --eval_steps "
            "(0.1), which a share of the run and a number of updates cannot promise");
  EXPECT_EQ(Check("early_stopping_patience: 1"),
            "--early_stopping_patience needs an --eval_strategy other than no");
  EXPECT_EQ(Check("output_dir: ''"), "--output_dir is empty");
  EXPECT_EQ(Check("num_train_epochs: 0"),
            "--num_train_epochs 0 leaves nothing to train; for that: --no_do_train");
}

TEST(CheckTrainingArgumentsTest, RecomputeFlagsThatDoNotGoTogether) {
  EXPECT_EQ(Check("recompute_granularity: 'full' gradient_checkpointing: true"), "");
  EXPECT_EQ(Check("recompute_granularity: 'selective' recompute_modules: 'mlp'"), "");
  EXPECT_EQ(Check("recompute_granularity: 'full' recompute_method: 'block' "
                  "recompute_num_layers: 3"),
            "");
  EXPECT_EQ(Check("recompute_granularity: 'selective' gradient_checkpointing: true"),
            "--gradient_checkpointing is --recompute_granularity full; got selective: choose");
  EXPECT_EQ(Check("recompute_granularity: 'full' recompute_modules: 'mlp'"),
            "--recompute_modules needs --recompute_granularity selective");
  // A saved configuration has the defaults.
  EXPECT_EQ(Check("recompute_method: 'uniform'"), "");
  EXPECT_EQ(Check("recompute_method: 'block' recompute_num_layers: 2"),
            "--recompute_method block needs --recompute_granularity full");
  EXPECT_EQ(Check("recompute_granularity: 'full' recompute_method: 'uniform' "
                  "recompute_num_layers: 1"),
            "");
  EXPECT_EQ(Check("gradient_checkpointing: true recompute_num_layers: 2"),
            "--recompute_num_layers 2 needs --recompute_granularity full and --recompute_method "
            "block; uniform computes every layer again by itself");
  EXPECT_EQ(Check("gradient_checkpointing: true recompute_method: 'block'"),
            "--recompute_method block needs --recompute_num_layers");
}

TEST(TrainingArgumentsTest, WhatIsRecomputed) {
  EXPECT_EQ(WhatIsRecomputed(Arguments("")).num_layers, 0);
  EXPECT_EQ(WhatIsRecomputed(Arguments("gradient_checkpointing: true")).num_layers,
            std::numeric_limits<int>::max());
  const Recomputation block = WhatIsRecomputed(
      Arguments("recompute_granularity: 'full' recompute_method: 'block' recompute_num_layers: 3"));
  EXPECT_EQ(block.num_layers, 3);
  EXPECT_FALSE(block.mlp);
  EXPECT_FALSE(WhatIsRecomputed(Arguments("recompute_granularity: 'selective'")).mlp);
  const Recomputation mlp = WhatIsRecomputed(
      Arguments("recompute_granularity: 'selective' recompute_modules: ['core_attn', 'mlp']"));
  EXPECT_TRUE(mlp.mlp);
  EXPECT_EQ(mlp.num_layers, 0);
}

TEST(NumStepsTest, SharesRoundUp) {
  EXPECT_EQ(NumSteps(500, 20), 500);
  EXPECT_EQ(NumSteps(1, 20), 1);
  EXPECT_EQ(NumSteps(0.25, 10), 3);
  EXPECT_EQ(NumSteps(0.5, 10), 5);
  EXPECT_EQ(NumSteps(0, 10), 0);
}

TEST(TrainingArgumentsTest, DerivedValues) {
  EXPECT_EQ(EvalSteps(Arguments("logging_steps: 7 eval_strategy: 'steps'")), 7);
  EXPECT_EQ(EvalSteps(Arguments("logging_steps: 7 eval_strategy: 'steps' eval_steps: 0")), 7);
  EXPECT_EQ(EvalSteps(Arguments("logging_steps: 7")), 500);
  EXPECT_EQ(EvalSteps(Arguments("logging_steps: 7 eval_steps: 3")), 3);
  EXPECT_FALSE(TracksBestModel(Arguments("eval_strategy: 'steps'")));
  EXPECT_TRUE(TracksBestModel(Arguments("load_best_model_at_end: true")));
  EXPECT_TRUE(TracksBestModel(Arguments("save_strategy: 'best'")));
  EXPECT_TRUE(TracksBestModel(Arguments("early_stopping_patience: 2")));
  EXPECT_TRUE(TracksBestModel(Arguments("metric_for_best_model: 'loss'")));
  EXPECT_EQ(MetricForBestModel(Arguments("")), "eval_loss");
  EXPECT_EQ(MetricForBestModel(Arguments("metric_for_best_model: 'accuracy'")), "eval_accuracy");
  EXPECT_EQ(MetricForBestModel(Arguments("metric_for_best_model: 'eval_x'")), "eval_x");
  EXPECT_FALSE(GreaterIsBetter(Arguments("")));
  EXPECT_TRUE(GreaterIsBetter(Arguments("metric_for_best_model: 'accuracy'")));
  EXPECT_FALSE(
      GreaterIsBetter(Arguments("metric_for_best_model: 'perplexity' greater_is_better: false")));
  EXPECT_THAT(ReportTargets(Arguments("")), IsEmpty());
  EXPECT_THAT(ReportTargets(Arguments("report_to: 'none'")), IsEmpty());
  EXPECT_THAT(ReportTargets(Arguments("report_to: 'wandb' report_to: 'tensorboard'")),
              ElementsAre("tensorboard", "wandb"));
  EXPECT_THAT(ReportTargets(Arguments("report_to: 'all'")),
              ElementsAre("tensorboard", "swanlab", "wandb"));
}

}  // namespace
}  // namespace lathe
