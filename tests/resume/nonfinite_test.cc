// A loss or gradient that is not finite: the update is skipped on all ranks, logged and counted;
// too many in a row end the run with one line, and what was saved before stays.

#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/tests/process/program.h"
#include "lathe/tests/process/tiny_pretraining.h"
#include "lathe/tests/resume/run_outcome.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

nlohmann::json TrainResults(const std::string& output_dir) {
  return nlohmann::json::parse(ReadFile(output_dir + "/train_results.json"), nullptr, false);
}

// Overwrites row `row` of a fp32 matrix in a safetensors file.
void FillRow(const std::string& path, const std::string& tensor, int64_t row, float value) {
  std::string bytes = ReadFile(path);
  uint64_t header_size;
  std::memcpy(&header_size, bytes.data(), sizeof header_size);
  const nlohmann::json header = nlohmann::json::parse(bytes.substr(8, header_size));
  const nlohmann::json entry = header.at(tensor);
  const int64_t columns = entry["shape"][1];
  const uint64_t begin =
      8 + header_size + entry["data_offsets"][0].get<uint64_t>() + row * columns * sizeof(float);
  for (int64_t i = 0; i < columns; ++i)
    std::memcpy(bytes.data() + begin + i * sizeof value, &value, sizeof value);
  WriteFile(path, bytes);
}

class NonFiniteTest : public testing::Test {
 protected:
  ProgramEnd Run(const std::string& output_dir, const std::vector<std::string>& more) const {
    return RunProgram(kPretrain, {.arguments = tiny_.Flags(output_dir, more)});
  }

  // A model with an infinite embedding for the letter Z, and a document that has this letter.
  std::string ModelWithInfiniteZ() const {
    const std::string model = folder_ + "/infinite_z";
    const ProgramEnd made = Run(model, {"--max_steps", "1"});
    EXPECT_EQ(made.exit_code, 0) << made.Text();
    FillRow(model + "/model.safetensors", "model.embed_tokens.weight", 'Z',
            std::numeric_limits<float>::infinity());
    return model;
  }

  const std::string folder_ = NewFolder();
  const TinyPretraining tiny_{folder_};
  const std::string out_ = folder_ + "/out";
};

// After the first update every weight is about 1e30, so each loss after it is not a number.
TEST_F(NonFiniteTest, StopsTheRunAfterSoMany) {
  const ProgramEnd end = Run(out_, {"--learning_rate", "1e30", "--max_nonfinite_steps", "3"});
  EXPECT_EQ(end.exit_code, 2) << end.Text();
  const std::vector<std::string> errors = end.ErrorLines();
  ASSERT_EQ(errors.size(), 1u) << end.Text();
  EXPECT_TRUE(absl::StrContains(errors[0], "not finite in 3 updates in a row, up to step 4"))
      << errors[0];
  EXPECT_TRUE(absl::StrContains(errors[0], "--learning_rate")) << errors[0];
  EXPECT_EQ(end.Count("the update was skipped"), 3) << end.Text();
  ExpectWholeCheckpoints(out_);
  ExpectNoLeftovers(out_);
}

TEST_F(NonFiniteTest, SkipsAndCounts) {
  const ProgramEnd end = Run(out_, {"--learning_rate", "1e30", "--max_nonfinite_steps", "100"});
  EXPECT_EQ(end.exit_code, 0) << end.Text();
  EXPECT_EQ(TrainResults(out_)["nonfinite_steps"], 13);
  // Weights and moments stay as the first update left them.
  for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
    EXPECT_TRUE(ReadFile(absl::StrCat(out_, "/checkpoint-2/", file)) ==
                ReadFile(absl::StrCat(out_, "/checkpoint-14/", file)))
        << file;
  }
}

// One block of one rank is not finite: all ranks skip the same update, and the others are taken.
TEST_F(NonFiniteTest, AllRanksSkipWhatOneCannotDo) {
  const std::string model = ModelWithInfiniteZ();
  WriteFile(folder_ + "/z.jsonl",
            ReadFile(tiny_.train_file()) + "{\"text\": \"ZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ\"}\n");
  for (const int num_ranks : {1, 2}) {
    const std::string out = absl::StrCat(out_, num_ranks);
    const std::vector<std::string> flags = {"--model_name_or_path",
                                            model,
                                            "--train_files",
                                            folder_ + "/z.jsonl",
                                            "--gradient_accumulation_steps",
                                            absl::StrCat(4 / num_ranks),
                                            "--nproc_per_node",
                                            absl::StrCat(num_ranks),
                                            "--save_steps",
                                            "1"};
    const ProgramEnd end = Run(out, flags);
    EXPECT_EQ(end.exit_code, 0) << end.Text();
    const int64_t skipped = TrainResults(out)["nonfinite_steps"];
    EXPECT_GE(skipped, 2);  // once in each epoch, or twice where two blocks share the word
    EXPECT_LE(skipped, 4);
    EXPECT_GE(end.Count("the update was skipped"), skipped);
    EXPECT_FALSE(absl::StrContains(ReadFile(out + "/trainer_state.json"), "NaN"));
    const RunOutcome wanted = ReadRunOutcome(out);
    EXPECT_GT(wanted.history.size(), 6u);

    // The count and the skipped updates come back with a checkpoint.
    const ProgramEnd resumed =
        Run(absl::StrCat(out, "_resumed"),
            {"--model_name_or_path", model, "--train_files", folder_ + "/z.jsonl",
             "--gradient_accumulation_steps", absl::StrCat(4 / num_ranks), "--nproc_per_node",
             absl::StrCat(num_ranks), "--save_steps", "1", "--resume_from_checkpoint",
             absl::StrCat(out, "/checkpoint-", wanted.last_checkpoint / 2 + 1)});
    EXPECT_EQ(resumed.exit_code, 0) << resumed.Text();
    ExpectSameOutcome(wanted, ReadRunOutcome(absl::StrCat(out, "_resumed")));
  }
}

// How many there were in a row is part of the state: restarts do not buy more patience.
TEST_F(NonFiniteTest, ARestartGoesOnCounting) {
  const ProgramEnd first = Run(out_, {"--learning_rate", "1e30", "--max_nonfinite_steps", "4"});
  EXPECT_EQ(first.exit_code, 2) << first.Text();
  EXPECT_EQ(CheckpointsIn(out_), (std::vector<int64_t>{2, 4, 5}));
  const ProgramEnd second = Run(out_, {"--learning_rate", "1e30", "--max_nonfinite_steps", "4"});
  EXPECT_EQ(second.exit_code, 2) << second.Text();
  EXPECT_EQ(second.Count("the update was skipped"), 1) << second.Text();
}

TEST_F(NonFiniteTest, StopsAllRanks) {
  const ProgramEnd end =
      Run(out_, {"--learning_rate", "1e30", "--max_nonfinite_steps", "3", "--nproc_per_node", "2"});
  EXPECT_EQ(end.exit_code, 2) << end.Text();
  EXPECT_LE(end.ErrorLines().size(), 2u) << end.Text();
  EXPECT_TRUE(end.Says("not finite in 3 updates in a row")) << end.Text();
  EXPECT_TRUE(LiveDescendants().empty());
}

}  // namespace
}  // namespace lathe
