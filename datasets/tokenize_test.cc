#include "lathe/datasets/tokenize.h"

#include <cstdint>
#include <fstream>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"
#include "lathe/datasets/jsonl_source.h"

namespace lathe {
namespace {

constexpr int64_t kDocuments = 1000;

// Document i is "i" followed by i % 7 letters; `bad_line` is broken.
std::string WriteDocuments(int bad_line = 0) {
  const std::string path = absl::StrCat(testing::TempDir(), "/documents.jsonl");
  std::ofstream file(path);
  for (int i = 0; i < kDocuments; ++i) {
    if (i + 1 == bad_line) {
      file << "{\"text\": 1}\n";
    } else {
      file << "{\"text\":\"" << i << std::string(i % 7, 'x') << "\"}\n";
    }
  }
  return path;
}

absl::Status EncodeBytes(std::string_view text, std::vector<int32_t>* ids) {
  for (const char c : text) ids->push_back(c);
  return absl::OkStatus();
}

TEST(TokenizeDocuments, DoesNotDependOnTheThreads) {
  const JsonlSource source = *JsonlSource::Open({WriteDocuments()}, {});
  for (const int num_workers : {1, 2, 3, 8, 500}) {
    const auto tokens = TokenizeDocuments(source, EncodeBytes, {.num_workers = num_workers});
    ASSERT_TRUE(tokens.ok());
    ASSERT_EQ(tokens->num_documents(), kDocuments);
    for (int64_t i = 0; i < kDocuments; ++i) {
      const std::string text = absl::StrCat(i, std::string(i % 7, 'x'));
      EXPECT_EQ(tokens->Document(i), std::vector<int32_t>(text.begin(), text.end()));
    }
  }
}

TEST(TokenizeDocuments, UsesTheThreadsAtOnce) {
  const JsonlSource source = *JsonlSource::Open({WriteDocuments()}, {});
  absl::Mutex mutex;
  std::set<std::thread::id> threads;
  auto encode = [&](std::string_view text, std::vector<int32_t>* ids) {
    absl::MutexLock lock(mutex);
    threads.insert(std::this_thread::get_id());
    // Nobody goes on before all three are here.
    auto all_here = [&] { return threads.size() == 3; };
    mutex.Await(absl::Condition(&all_here));
    return absl::OkStatus();
  };
  ASSERT_TRUE(TokenizeDocuments(source, encode, {.num_workers = 3}).ok());
}

TEST(TokenizeDocuments, ReportsProgress) {
  const JsonlSource source = *JsonlSource::Open({WriteDocuments()}, {});
  int64_t last = 0;
  bool rising = true;
  TokenizeOptions options = {.num_workers = 4};
  options.progress = [&](int64_t done, int64_t total) {
    rising = rising && done > last && total == kDocuments;
    last = done;
  };
  ASSERT_TRUE(TokenizeDocuments(source, EncodeBytes, options).ok());
  EXPECT_TRUE(rising);
  EXPECT_EQ(last, kDocuments);
}

TEST(TokenizeDocuments, TheFirstErrorWins) {
  const std::string path = WriteDocuments(/*bad_line=*/778);
  const JsonlSource source = *JsonlSource::Open({path}, {});
  for (int round = 0; round < 20; ++round) {
    const auto bad_line = TokenizeDocuments(source, EncodeBytes, {.num_workers = 4});
    EXPECT_EQ(bad_line.status().message().find(path + ":778: field"), 0) << bad_line.status();
    auto encode = [](std::string_view text, std::vector<int32_t>* ids) {
      return text[0] == '6' && text[1] == '7' && text[2] > '2' && text[2] <= '9'
                 ? absl::ResourceExhaustedError("no more")
                 : absl::OkStatus();
    };
    const auto bad_text = TokenizeDocuments(source, encode, {.num_workers = 4});
    EXPECT_EQ(bad_text.status(), absl::ResourceExhaustedError(path + ":674: no more"));
  }
}

TEST(TokenizeDocuments, HandsOnExceptions) {
  const JsonlSource source = *JsonlSource::Open({WriteDocuments()}, {});
  auto encode = [](std::string_view text, std::vector<int32_t>* ids) -> absl::Status {
    if (absl::StartsWith(text, "500")) throw std::runtime_error("500");
    return absl::OkStatus();
  };
  EXPECT_THROW(TokenizeDocuments(source, encode, {.num_workers = 4}).IgnoreError(),
               std::runtime_error);
}

}  // namespace
}  // namespace lathe
