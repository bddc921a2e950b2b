// Encoding speed on one thread, cache cold at the start of each iteration as in a first pass over a
// data set.
//
// LATHE_TOKENIZER: a Hugging Face directory (default: the bundled SmolLM2's). LATHE_TEXTS: a file,
// one document per paragraph (blank line between), UTF-8 (default: this repository's odd texts,
// many times over).
//   bazel run //datasets/tokenizers:tokenizer_benchmark
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "benchmark/benchmark.h"
#include "lathe/datasets/tokenizers/tokenizer.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

std::string Setting(const char* name, const char* fallback) {
  const char* value = std::getenv(name);
  return value == nullptr ? fallback : value;
}

const std::vector<std::string>& Documents() {
  static const auto* documents = [] {
    auto* result = new std::vector<std::string>();
    const std::string path = Setting("LATHE_TEXTS", "");
    if (path.empty()) {
      std::ifstream file("tests/goldens/tokenizers/texts.json");
      const auto texts = nlohmann::json::parse(file).get<std::vector<std::string>>();
      for (int i = 0; i < 200; ++i) result->insert(result->end(), texts.begin(), texts.end());
      return result;
    }
    std::ifstream file(path, std::ios::binary);
    std::stringstream content;
    content << file.rdbuf();
    const std::string text = content.str();
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find("\n\n", begin), text.size());
      result->push_back(text.substr(begin, end - begin));
      begin = end + 2;
    }
    return result;
  }();
  return *documents;
}

std::unique_ptr<Tokenizer> LoadTokenizer() {
  auto tokenizer = Tokenizer::Load(Setting("LATHE_TOKENIZER", "third_party/smollm2/tokenizer"));
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

void BM_Load(benchmark::State& state) {
  for (auto _ : state) {
    if (LoadTokenizer() == nullptr) return state.SkipWithError("no tokenizer: set LATHE_TOKENIZER");
  }
}
BENCHMARK(BM_Load)->Unit(benchmark::kMillisecond);

void BM_EncodeCold(benchmark::State& state) {
  int64_t bytes = 0;
  std::vector<int32_t> ids;
  for (auto _ : state) {
    state.PauseTiming();
    const std::unique_ptr<Tokenizer> tokenizer = LoadTokenizer();
    if (tokenizer == nullptr) return state.SkipWithError("no tokenizer: set LATHE_TOKENIZER");
    state.ResumeTiming();
    for (const std::string& text : Documents()) {
      ids.clear();
      if (!tokenizer->EncodeAppend(text, true, &ids).ok())
        return state.SkipWithError("the text is not UTF-8");
      benchmark::DoNotOptimize(ids.data());
      bytes += text.size();
    }
  }
  state.SetBytesProcessed(bytes);
}
BENCHMARK(BM_EncodeCold)->Unit(benchmark::kMillisecond);

void BM_EncodeBatch(benchmark::State& state) {
  const std::unique_ptr<Tokenizer> tokenizer = LoadTokenizer();
  if (tokenizer == nullptr) return state.SkipWithError("no tokenizer: set LATHE_TOKENIZER");
  const std::vector<std::string_view> texts(Documents().begin(), Documents().end());
  int64_t bytes = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(tokenizer->EncodeBatch(texts, true, static_cast<int>(state.range(0))));
    for (const std::string_view text : texts) bytes += text.size();
  }
  state.SetBytesProcessed(bytes);
}
BENCHMARK(BM_EncodeBatch)->Arg(1)->Arg(2)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace lathe
