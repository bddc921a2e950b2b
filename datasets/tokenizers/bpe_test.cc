#include "lathe/datasets/tokenizers/bpe.h"

#include <map>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace lathe {
namespace {

using Merges = std::vector<std::pair<std::string, std::string>>;

// A vocabulary of the letters a to h, of what `merges` give, and a few more.
Vocabulary MakeVocabulary(const Merges& merges, const std::vector<std::string>& more = {}) {
  Vocabulary vocabulary;
  const auto add = [&](const std::string& token) {
    if (vocabulary.Find(token) >= 0) return;
    EXPECT_TRUE(vocabulary.Add(token, vocabulary.end_id()).ok());
  };
  for (char c = 'a'; c <= 'h'; ++c) add(std::string(1, c));
  for (const auto& [left, right] : merges) add(left + right);
  for (const std::string& token : more) add(token);
  return vocabulary;
}

std::vector<std::string> Encode(const Bpe& bpe, const Vocabulary& vocabulary,
                                const std::string& piece) {
  Bpe::Scratch scratch;
  std::vector<int32_t> ids(piece.size());
  ids.resize(bpe.Encode(piece, &scratch, ids.data()));
  std::vector<std::string> tokens;
  for (const int32_t id : ids) tokens.push_back(*vocabulary.Token(id));
  return tokens;
}

// The definition, word for word: merge the neighbours of the lowest rank, the leftmost first, and
// look again.
std::vector<std::string> SlowEncode(const Merges& merges, const std::string& piece) {
  std::map<std::pair<std::string, std::string>, size_t> rank_of;
  for (size_t rank = 0; rank < merges.size(); ++rank) rank_of[merges[rank]] = rank;
  std::vector<std::string> tokens;
  for (const char c : piece) tokens.emplace_back(1, c);
  while (true) {
    size_t best = merges.size(), at = 0;
    for (size_t i = 0; i + 1 < tokens.size(); ++i) {
      const auto it = rank_of.find({tokens[i], tokens[i + 1]});
      if (it != rank_of.end() && it->second < best) {
        best = it->second;
        at = i;
      }
    }
    if (best == merges.size()) return tokens;
    tokens[at] += tokens[at + 1];
    tokens.erase(tokens.begin() + at + 1);
  }
}

TEST(BpeTest, EqualsTheDefinitionOnRandomMerges) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::string> tokens;
    for (char c = 'a'; c <= 'h'; ++c) tokens.emplace_back(1, c);
    Merges merges;
    const int num_merges = 1 + random() % 60;
    for (int i = 0; i < num_merges; ++i) {
      // Any two tokens, so that several merges may give the same token and some pairs come twice.
      merges.emplace_back(tokens[random() % tokens.size()], tokens[random() % tokens.size()]);
      tokens.push_back(merges.back().first + merges.back().second);
    }
    const Vocabulary vocabulary = MakeVocabulary(merges);
    const Bpe bpe = Bpe::Create(vocabulary, merges, {}).value();
    const int num_letters = 1 + random() % 8;
    // On both sides of the length from which a heap is used.
    for (const size_t length : {0, 1, 2, 3, 7, 20, 100, 127, 128, 129, 130, 400}) {
      std::string piece;
      for (size_t i = 0; i < length; ++i) piece += static_cast<char>('a' + random() % num_letters);
      ASSERT_EQ(Encode(bpe, vocabulary, piece), SlowEncode(merges, piece)) << piece;
    }
  }
}

TEST(BpeTest, LongPiecesTakeNLogN) {
  // 4 MB: with quadratic time this would take hours.
  const Merges merges = {{"a", "a"}, {"aa", "aa"}, {"a", "b"}, {"aaaa", "aaaa"}};
  const Vocabulary vocabulary = MakeVocabulary(merges);
  const Bpe bpe = Bpe::Create(vocabulary, merges, {}).value();
  const std::vector<std::string> tokens = Encode(bpe, vocabulary, std::string(4'000'000, 'a'));
  EXPECT_EQ(tokens, std::vector<std::string>(500'000, "aaaaaaaa"));
}

TEST(BpeTest, BytesOutsideTheVocabulary) {
  const Merges merges = {{"a", "b"}};
  const Vocabulary vocabulary = MakeVocabulary(merges, {"?"});
  const Bpe dropping = Bpe::Create(vocabulary, merges, {}).value();
  // What is left moves together, and merges.
  EXPECT_EQ(Encode(dropping, vocabulary, "axyb"), std::vector<std::string>({"ab"}));
  EXPECT_EQ(Encode(dropping, vocabulary, "xyz"), std::vector<std::string>());
  const Bpe unknown = Bpe::Create(vocabulary, merges, {.unk_token = "?"}).value();
  EXPECT_EQ(Encode(unknown, vocabulary, "axyb"), std::vector<std::string>({"a", "?", "?", "b"}));
  const Bpe fusing = Bpe::Create(vocabulary, merges, {.unk_token = "?", .fuse_unk = true}).value();
  EXPECT_EQ(Encode(fusing, vocabulary, "axybz"), std::vector<std::string>({"a", "?", "b", "?"}));
}

TEST(BpeTest, WholePieces) {
  const Merges merges = {{"a", "b"}};
  const Vocabulary vocabulary = MakeVocabulary(merges, {"abc"});
  const Bpe merging = Bpe::Create(vocabulary, merges, {}).value();
  EXPECT_EQ(Encode(merging, vocabulary, "abc"), std::vector<std::string>({"ab", "c"}));
  const Bpe ignoring = Bpe::Create(vocabulary, merges, {.ignore_merges = true}).value();
  EXPECT_EQ(Encode(ignoring, vocabulary, "abc"), std::vector<std::string>({"abc"}));
  EXPECT_EQ(Encode(ignoring, vocabulary, "abca"), std::vector<std::string>({"ab", "c", "a"}));
}

TEST(BpeTest, NamesADanglingMerge) {
  const Vocabulary vocabulary = MakeVocabulary({{"a", "b"}});
  for (const Merges& merges : {Merges{{"a", "b"}, {"ab", "x"}}, Merges{{"a", "b"}, {"x", "a"}},
                               Merges{{"a", "b"}, {"b", "c"}}}) {
    const absl::Status status = Bpe::Create(vocabulary, merges, {}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(status.message().find("model.merges[1] joins") != std::string::npos) << status;
  }
  EXPECT_FALSE(Bpe::Create(vocabulary, {}, {.unk_token = "<unk>"}).ok());
}

}  // namespace
}  // namespace lathe
