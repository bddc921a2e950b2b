#include "lathe/base/config/flags.h"

#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lathe/base/config/config_test.pb.h"

namespace lathe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

absl::StatusOr<ParsedFlags> Parse(const std::vector<std::string>& arguments, TestConfig* config,
                                  FlagsOptions options = {.width = 80, .colour = false}) {
  std::vector<const char*> argv = {"program"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  return ParseFlags(static_cast<int>(argv.size()), argv.data(), options, config);
}

TestConfig ParseOrDie(const std::vector<std::string>& arguments) {
  TestConfig config;
  const absl::StatusOr<ParsedFlags> parsed = Parse(arguments, &config);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_TRUE(!parsed.ok() || parsed->print.empty());
  return config;
}

std::string ErrorOf(const std::vector<std::string>& arguments) {
  TestConfig config;
  const absl::StatusOr<ParsedFlags> parsed = Parse(arguments, &config);
  EXPECT_FALSE(parsed.ok());
  const std::string message(parsed.status().message());
  EXPECT_THAT(message, Not(HasSubstr("\n")));
  return message;
}

class FlagsTest : public ::testing::Test {
 protected:
  FlagsTest() { unsetenv("BUILD_WORKING_DIRECTORY"); }
};

TEST_F(FlagsTest, NothingGivenLeavesTheDefaults) {
  const TestConfig config = ParseOrDie({});
  EXPECT_EQ(config.training().learning_rate(), 5e-5);
  EXPECT_EQ(config.training().max_steps(), -1);
  EXPECT_FALSE(config.training().has_disable_tqdm());
  EXPECT_THAT(config.training().report_to(), IsEmpty());
}

TEST_F(FlagsTest, SpellingsOfAValue) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"--learning_rate", "1e-4"},
                                             {"--learning_rate=1e-4"},
                                             {"--learning-rate", "0.0001"},
                                             {"--learning-rate=.0001"},
                                             {"--learning_rate", "+1E-4"}}) {
    EXPECT_EQ(ParseOrDie(arguments).training().learning_rate(), 1e-4) << arguments[0];
  }
}

TEST_F(FlagsTest, Integers) {
  EXPECT_EQ(ParseOrDie({"--max_steps", "20"}).training().max_steps(), 20);
  EXPECT_EQ(ParseOrDie({"--max_steps", "-1"}).training().max_steps(), -1);
  EXPECT_EQ(ParseOrDie({"--max_steps=-1"}).training().max_steps(), -1);
  EXPECT_EQ(ParseOrDie({"--max_steps", "1e3"}).training().max_steps(), 1000);
  EXPECT_EQ(ParseOrDie({"--bucket_size", "2e8"}).training().bucket_size(), 200000000);
  EXPECT_EQ(ParseOrDie({"--bucket_size", "9223372036854775807"}).training().bucket_size(),
            9223372036854775807);
  EXPECT_EQ(ErrorOf({"--max_steps", "2.5"}), "--max_steps: expected an integer, got '2.5'");
  EXPECT_EQ(ErrorOf({"--max_steps", "many"}), "--max_steps: expected an integer, got 'many'");
  EXPECT_EQ(ErrorOf({"--max_steps", ""}), "--max_steps: expected an integer, got ''");
  EXPECT_EQ(ErrorOf({"--max_steps", " 3"}), "--max_steps: expected an integer, got ' 3'");
  EXPECT_EQ(ErrorOf({"--max_steps", "0x10"}), "--max_steps: expected an integer, got '0x10'");
  EXPECT_EQ(ErrorOf({"--max_steps", "nan"}), "--max_steps: expected an integer, got 'nan'");
  EXPECT_EQ(ErrorOf({"--max_steps", "3000000000"}),
            "--max_steps: expected an integer from -2147483648 to 2147483647, got 3000000000");
  EXPECT_EQ(ErrorOf({"--max_steps", "1e300"}),
            "--max_steps: expected an integer from -2147483648 to 2147483647, got '1e300'");
  EXPECT_EQ(ErrorOf({"--max_steps", "inf"}),
            "--max_steps: expected an integer from -2147483648 to 2147483647, got 'inf'");
  EXPECT_THAT(ErrorOf({"--bucket_size", "9223372036854775808"}), HasSubstr("expected an integer"));
  EXPECT_EQ(ErrorOf({"--bucket_size", "0"}), "--bucket_size: expected at least 1, got 0");
}

TEST_F(FlagsTest, Numbers) {
  EXPECT_EQ(ParseOrDie({"--learning_rate", "0"}).training().learning_rate(), 0);
  EXPECT_EQ(ErrorOf({"--learning_rate", "fast"}), "--learning_rate: expected a number, got 'fast'");
  EXPECT_EQ(ErrorOf({"--learning_rate", "1e-4x"}),
            "--learning_rate: expected a number, got '1e-4x'");
  EXPECT_EQ(ErrorOf({"--learning_rate", "nan"}),
            "--learning_rate: expected a finite number, got 'nan'");
  EXPECT_EQ(ErrorOf({"--learning_rate", "inf"}),
            "--learning_rate: expected a finite number, got 'inf'");
  EXPECT_EQ(ErrorOf({"--learning_rate", "-1e-4"}),
            "--learning_rate: expected at least 0, got -0.0001");
  EXPECT_EQ(ErrorOf({"--adam_beta1", "1"}), "--adam_beta1: expected less than 1, got 1");
  EXPECT_EQ(ErrorOf({"--learning_rate", "1", "2"}),
            "unexpected argument '2' after --learning_rate");
  EXPECT_EQ(ErrorOf({"--learning_rate"}), "--learning_rate needs a value: a number");
  EXPECT_EQ(ErrorOf({"--learning_rate", "--bf16"}), "--learning_rate needs a value: a number");
}

TEST_F(FlagsTest, Ratios) {
  EXPECT_EQ(ParseOrDie({"--save_steps", "0.25"}).training().save_steps(), 0.25);
  EXPECT_EQ(ParseOrDie({"--save_steps", "100"}).training().save_steps(), 100);
  EXPECT_EQ(ParseOrDie({"--save_steps", "1"}).training().save_steps(), 1);
  EXPECT_EQ(ErrorOf({"--save_steps", "1.5"}),
            "--save_steps: expected a whole number of steps, or a share of all steps below 1; got "
            "1.5");
  EXPECT_EQ(ErrorOf({"--save_steps", "-0.5"}), "--save_steps: expected at least 0, got -0.5");
}

TEST_F(FlagsTest, Booleans) {
  EXPECT_TRUE(ParseOrDie({"--bf16"}).training().bf16());
  EXPECT_TRUE(ParseOrDie({"--bf16", "--max_steps", "1"}).training().bf16());
  for (const char* yes : {"true", "True", "TRUE", "yes", "y", "t", "1"}) {
    EXPECT_TRUE(ParseOrDie({"--bf16", yes}).training().bf16()) << yes;
    EXPECT_TRUE(ParseOrDie({std::string("--bf16=") + yes}).training().bf16()) << yes;
  }
  for (const char* no : {"false", "False", "no", "n", "f", "0"}) {
    EXPECT_FALSE(ParseOrDie({"--drop_last", no}).training().drop_last()) << no;
  }
  EXPECT_FALSE(ParseOrDie({"--no_drop_last"}).training().drop_last());
  EXPECT_FALSE(ParseOrDie({"--no-drop-last"}).training().drop_last());
  EXPECT_FALSE(ParseOrDie({"--nodrop_last"}).training().drop_last());
  EXPECT_TRUE(ParseOrDie({"--no_disable_tqdm"}).training().has_disable_tqdm());
  EXPECT_FALSE(ParseOrDie({"--no_disable_tqdm"}).training().disable_tqdm());
  EXPECT_EQ(ErrorOf({"--bf16=maybe"}), "--bf16: expected true or false, got 'maybe'");
  EXPECT_EQ(ErrorOf({"--no_bf16=true"}), "--no_bf16 takes no value");
  EXPECT_EQ(ErrorOf({"--no_bf16", "true"}), "unexpected argument 'true' after --no_bf16");
  EXPECT_EQ(ErrorOf({"--bf16", "x.jsonl"}), "unexpected argument 'x.jsonl' after --bf16");
  EXPECT_THAT(ErrorOf({"--no_max_steps"}), StartsWith("unknown flag --no_max_steps"));
}

TEST_F(FlagsTest, Lists) {
  EXPECT_THAT(ParseOrDie({"--train_files", "a", "b", "c"}).training().train_files(),
              ElementsAre("a", "b", "c"));
  EXPECT_THAT(
      ParseOrDie({"--train_files", "a", "--bf16", "--train_files", "b"}).training().train_files(),
      ElementsAre("a", "b"));
  EXPECT_THAT(ParseOrDie({"--train_files=a,b"}).training().train_files(), ElementsAre("a,b"));
  EXPECT_THAT(ParseOrDie({"--train_files=-x"}).training().train_files(), ElementsAre("-x"));
  EXPECT_THAT(ParseOrDie({"--report_to", "tensorboard,wandb"}).training().report_to(),
              ElementsAre("tensorboard", "wandb"));
  EXPECT_THAT(ParseOrDie({"--weights", "1", "-0", "2.5"}).training().weights(),
              ElementsAre(1, 0, 2.5));
  EXPECT_EQ(ErrorOf({"--train_files"}), "--train_files needs a value: a path");
  EXPECT_EQ(ErrorOf({"--report_to", "tensorboard,"}),
            "--report_to: has an empty element in 'tensorboard,'");
  EXPECT_EQ(ErrorOf({"--report_to", "none", "mlflow"}),
            "--report_to: expected one of none, tensorboard, wandb; got 'mlflow'");
  EXPECT_EQ(ErrorOf({"--weights", "1", "-1"}), "--weights: expected at least 0, got -1");
}

TEST_F(FlagsTest, AListFlagReplacesTheProgramsOwnList) {
  TestConfig config;
  config.mutable_training()->add_train_files("bundled.jsonl");
  ASSERT_TRUE(Parse({"--train_files", "mine.jsonl"}, &config).ok());
  EXPECT_THAT(config.training().train_files(), ElementsAre("mine.jsonl"));
}

TEST_F(FlagsTest, ChoicesAndAliases) {
  EXPECT_EQ(ParseOrDie({"--evaluation_strategy", "no"}).training().eval_strategy(), "no");
  EXPECT_EQ(ParseOrDie({"--evaluation-strategy", "steps"}).training().eval_strategy(), "steps");
  EXPECT_EQ(ParseOrDie({"--dtype", "bfloat16"}).model().torch_dtype(), "bfloat16");
  EXPECT_EQ(ErrorOf({"--eval_strategy", "step"}),
            "--eval_strategy: expected one of no, steps, epoch; got 'step' (did you mean steps?)");
  EXPECT_EQ(ErrorOf({"--torch_dtype", "float16"}),
            "--torch_dtype: 'float16' is not implemented in this version; choose one of auto, "
            "bfloat16, float32");
}

TEST_F(FlagsTest, GivenTwice) {
  EXPECT_EQ(ErrorOf({"--seed", "1", "--seed", "1"}), "--seed is given twice");
  EXPECT_EQ(ErrorOf({"--evaluation_strategy", "no", "--eval_strategy", "no"}),
            "--evaluation_strategy and --eval_strategy are one flag, given twice");
  EXPECT_EQ(ErrorOf({"--bf16", "--no_bf16"}), "--bf16 and --no_bf16 are one flag, given twice");
}

TEST_F(FlagsTest, UnknownFlagsAreReportedTogether) {
  EXPECT_EQ(ErrorOf({"--learning_rat", "1"}),
            "unknown flag --learning_rat (did you mean --learning_rate?); --help lists all flags");
  EXPECT_EQ(ErrorOf({"--lerning-rate", "1", "--sead=3", "--xyzzy", "a", "b", "--bf16"}),
            "unknown flags --lerning-rate (did you mean --learning_rate?), --sead (did you mean "
            "--seed?), --xyzzy; --help lists all flags");
  EXPECT_THAT(ErrorOf({"--strategy", "x"}),
              HasSubstr("(did you mean --eval_strategy or --evaluation_strategy?)"));
}

TEST_F(FlagsTest, EveryProblemIsReported) {
  EXPECT_EQ(ErrorOf({"--max_steps", "x", "--what", "--learning_rate", "y"}),
            "unknown flag --what; --help lists all flags; --max_steps: expected an integer, got "
            "'x'; --learning_rate: expected a number, got 'y'");
}

TEST_F(FlagsTest, PositionalArgumentsAreRefused) {
  EXPECT_EQ(ErrorOf({"x.txt"}), "unexpected argument 'x.txt'");
  EXPECT_EQ(ErrorOf({"run.json", "--bf16"}),
            "unexpected argument 'run.json' (to read a configuration file: --config run.json)");
  EXPECT_EQ(ErrorOf({"-seed", "3"}),
            "unexpected argument '-seed' (flags begin with --); unexpected argument '3'");
  EXPECT_EQ(ErrorOf({"--"}), "unexpected argument '--' (flags begin with --)");
}

TEST_F(FlagsTest, WhatIsNotImplementedIsRefusedByNameUnlessNeutral) {
  EXPECT_EQ(ErrorOf({"--deepspeed", "./ds_config_zero2.json"}),
            "--deepspeed: './ds_config_zero2.json' is not implemented in this version: "
            "Not in this test.");
  EXPECT_EQ(ErrorOf({"--deepspeed"}),
            "--deepspeed is not implemented in this version: Not in this test.");
  EXPECT_EQ(ErrorOf({"--fp16"}),
            "--fp16: 'true' is not implemented in this version: bf16 needs no scaling.");
  EXPECT_EQ(ErrorOf({"--pipeline_size", "2"}),
            "--pipeline_size: '2' is not implemented in this version: One stage only.");
  EXPECT_EQ(ErrorOf({"--pipeline_size", "auto"}),
            "--pipeline_size is not implemented in this version: One stage only.");
  EXPECT_THAT(ErrorOf({"--gc_kwargs", "{\"use_reentrant\": true}"}),
              HasSubstr("There is one way."));
  ParseOrDie({"--fp16", "false"});
  ParseOrDie({"--no_fp16"});
  ParseOrDie({"--pipeline_size", "1"});
  ParseOrDie({"--gc_kwargs", "{ \"use_reentrant\":false }"});
}

TEST_F(FlagsTest, JsonText) {
  EXPECT_EQ(
      ParseOrDie({"--lr_scheduler_kwargs", "{\"a\":  [1, 2.50]}"}).training().lr_scheduler_kwargs(),
      "{\"a\": [1, 2.5]}");
  EXPECT_THAT(
      ErrorOf({"--lr_scheduler_kwargs", "{\"a\": "}),
      HasSubstr("--lr_scheduler_kwargs: expected a JSON object, got '{\"a\": ' (JSON:1:6: "));
  EXPECT_THAT(ErrorOf({"--lr_scheduler_kwargs", "3"}),
              HasSubstr("expected a JSON object, got '3'"));
}

TEST_F(FlagsTest, PathsAreRelativeToTheUser) {
  setenv("BUILD_WORKING_DIRECTORY", "/home/ann", 1);
  TestConfig config = ParseOrDie(
      {"--config_name", "qwen", "--train_files", "a", "/b", "--resume_from_checkpoint", "true"});
  EXPECT_EQ(config.model().config_name(), "/home/ann/qwen");
  EXPECT_THAT(config.training().train_files(), ElementsAre("/home/ann/a", "/b"));
  EXPECT_EQ(config.training().resume_from_checkpoint(), "true");
  EXPECT_EQ(config.training().output_dir(), "/home/ann/trainer_output");
  config = ParseOrDie({"--resume_from_checkpoint", "out/checkpoint-3"});
  EXPECT_EQ(config.training().resume_from_checkpoint(), "/home/ann/out/checkpoint-3");
  EXPECT_FALSE(config.model().has_config_name());
}

TEST_F(FlagsTest, AnyCommandLineGivesAConfigurationOrOneLine) {
  const std::vector<std::string> pool = {"--bf16",
                                         "--no_bf16",
                                         "--learning_rate",
                                         "--max_steps",
                                         "--train_files",
                                         "--report_to",
                                         "--",
                                         "---",
                                         "--=",
                                         "-",
                                         "-h=",
                                         "--=x",
                                         "=",
                                         "",
                                         "--no_",
                                         "--no",
                                         "--seed=",
                                         "--seed=1",
                                         "1",
                                         "-1",
                                         "1e9",
                                         "nan",
                                         "true",
                                         "a,b",
                                         ",",
                                         "{\"a\": 1}",
                                         "{",
                                         "\n",
                                         "\xff\xfe",
                                         "--\xff",
                                         "--config",
                                         "/dev/null",
                                         "--gc_kwargs",
                                         "--deepspeed",
                                         "--fp16=",
                                         "--save_steps",
                                         "0.5",
                                         "1.5",
                                         "--torch_dtype",
                                         "auto",
                                         "--eval-strategy",
                                         "no"};
  std::mt19937 rng(11);
  int accepted = 0;
  for (int trial = 0; trial < 20000; ++trial) {
    std::vector<std::string> arguments;
    for (unsigned i = rng() % 5; i > 0; --i) arguments.push_back(pool[rng() % pool.size()]);
    TestConfig config;
    const absl::StatusOr<ParsedFlags> parsed = Parse(arguments, &config);
    if (parsed.ok()) {
      ++accepted;
    } else {
      ASSERT_NE(parsed.status().message(), "");
      ASSERT_EQ(parsed.status().message().find('\n'), std::string_view::npos);
    }
  }
  EXPECT_GT(accepted, 4000);  // the empty command lines alone
  EXPECT_LT(accepted, 16000);
}

class FlagsFileTest : public FlagsTest {
 protected:
  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = ::testing::TempDir() + "/" + name;
    std::ofstream(path) << text;
    return path;
  }
};

TEST_F(FlagsFileTest, FlagsWinOverTheFileWhereverTheyStand) {
  const std::string path = Write(
      "run.json", R"({"learning_rate": 1e-3, "training": {"seed": 7, "train_files": ["f"]}})");
  const TestConfig config =
      ParseOrDie({"--learning_rate", "0.5", "--config", path, "--train_files", "g"});
  EXPECT_EQ(config.training().learning_rate(), 0.5);
  EXPECT_EQ(config.training().seed(), 7);
  EXPECT_THAT(config.training().train_files(), ElementsAre("g"));
}

TEST_F(FlagsFileTest, TheFormatIsToldByNameOrContent) {
  EXPECT_EQ(
      ParseOrDie({"--config=" + Write("a.textproto", "training { seed: 3 }")}).training().seed(),
      3);
  EXPECT_EQ(ParseOrDie({"--config", Write("noname", " \n{\"seed\": 4}")}).training().seed(), 4);
  EXPECT_EQ(ParseOrDie({"--config", Write("noname2", "training { seed: 5 }")}).training().seed(),
            5);
}

TEST_F(FlagsFileTest, ErrorsNameTheFile) {
  const std::string bad = Write("bad.json", "{\"sede\": 1}");
  EXPECT_EQ(ErrorOf({"--config", bad}), bad + ": unknown key sede (did you mean seed?)");
  EXPECT_EQ(ErrorOf({"--config", "/nowhere/x.json"}),
            "--config: cannot read /nowhere/x.json: No such file or directory");
  EXPECT_EQ(ErrorOf({"--config", "/tmp"}), "--config: /tmp is not a file");
  EXPECT_EQ(ErrorOf({"--config"}), "--config needs a file");
  EXPECT_EQ(ErrorOf({"--config", bad, "--config", bad}), "--config is given twice");
  EXPECT_EQ(ErrorOf({"--config", bad, "x"}), "unexpected argument 'x'");
}

TEST_F(FlagsFileTest, AConfigFileIsRelativeToTheUser) {
  Write("here.json", "{\"seed\": 9}");
  setenv("BUILD_WORKING_DIRECTORY", ::testing::TempDir().c_str(), 1);
  EXPECT_EQ(ParseOrDie({"--config", "here.json"}).training().seed(), 9);
}

std::string Printed(const std::vector<std::string>& arguments, FlagsOptions options) {
  TestConfig config;
  config.mutable_training()->set_seed(1234);
  const absl::StatusOr<ParsedFlags> parsed = Parse(arguments, &config, options);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.ok() ? parsed->print : "";
}

TEST_F(FlagsTest, HelpListsFlagsByGroup) {
  const FlagsOptions options = {.summary = "Trains.", .width = 60, .colour = false};
  const std::string help = Printed({"--help"}, options);
  EXPECT_THAT(help, StartsWith("Trains.\n"));
  EXPECT_THAT(help, HasSubstr("\nModel (--help model):\n"));
  EXPECT_THAT(help, HasSubstr("\nTraining (--help training):\n"));
  EXPECT_THAT(help, HasSubstr("  --learning_rate NUMBER\n      Peak learning rate. [default 5e-05; "
                              "per update; at\n      least 0]\n"));
  EXPECT_THAT(help, HasSubstr("  --eval_strategy no|steps|epoch\n"));
  EXPECT_THAT(help, HasSubstr("[default 1234]"));  // the program's default, not the message's
  EXPECT_THAT(help, HasSubstr("[default 500; below 1: share of all"));
  EXPECT_THAT(
      help,
      HasSubstr(
          "  --lr_scheduler_type NAME\n      Its shape. [one of linear, cosine, constant,\n      "
          "inverse_sqrt,"));
  EXPECT_THAT(help, HasSubstr("--fp16, --deepspeed"));
  EXPECT_THAT(help, HasSubstr("--torch_compile, --pipeline_size."));
  EXPECT_THAT(help, Not(HasSubstr("folded:")));
  EXPECT_THAT(help, Not(HasSubstr("  --fp16\n")));
  EXPECT_THAT(help, Not(HasSubstr("\033")));
  for (std::string_view line : absl::StrSplit(help, '\n')) EXPECT_LE(line.size(), 60u) << line;
  EXPECT_EQ(Printed({"-h"}, options), help);
  // Whatever else is wrong, help is help.
  EXPECT_EQ(Printed({"--xyzzy", "--help"}, options), help);
}

TEST_F(FlagsTest, HelpOnOneGroup) {
  const FlagsOptions options = {.width = 80, .colour = true};
  const std::string help = Printed({"--help", "model"}, options);
  EXPECT_THAT(help, HasSubstr("\033[1m--config_name\033[0m PATH"));
  EXPECT_THAT(help, Not(HasSubstr("--learning_rate")));
  EXPECT_EQ(ErrorOf({"--help", "modle"}),
            "--help modle: no such group; there are model, training, inner (for one flag: "
            "--explain NAME)");
}

TEST_F(FlagsTest, ExplainTellsAll) {
  const FlagsOptions options = {.width = 80, .colour = false};
  EXPECT_EQ(Printed({"--explain", "learning-rate"}, options),
            "--learning_rate NUMBER\n"
            "  Peak learning rate.\n"
            "\n"
            "  The schedule scales it.\n"
            "\n"
            "  A second paragraph.\n"
            "\n"
            "  Value: a number\n"
            "  Default: 5e-05\n"
            "  Unit: per update\n"
            "  Bounds: at least 0\n"
            "  In a --config file: training.learning_rate\n"
            "  In Hugging Face: TrainingArguments.learning_rate\n");
  const std::string eval = Printed({"--explain=--evaluation_strategy"}, options);
  EXPECT_THAT(eval, HasSubstr("  Also spelled: evaluation_strategy\n"));
  EXPECT_THAT(eval, HasSubstr("  Value: one of no, steps, epoch\n"));
  EXPECT_THAT(Printed({"--explain", "seed"}, options),
              HasSubstr("In Hugging Face: none: this flag is Lathe's own\n"));
  EXPECT_THAT(Printed({"--explain", "inner_rank"}, options),
              HasSubstr("In a --config file: training.inner.inner_rank\n"));
  EXPECT_THAT(Printed({"--explain", "deepspeed"}, options),
              HasSubstr("Not implemented in this version: Not in this test.\n"));
  EXPECT_EQ(ErrorOf({"--explain", "learning_rat"}),
            "--explain learning_rat: there is no such flag (did you mean learning_rate?)");
  EXPECT_EQ(ErrorOf({"--explain"}), "--explain needs the name of a flag");
}

}  // namespace
}  // namespace lathe
