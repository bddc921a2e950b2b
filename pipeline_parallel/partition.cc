#include "lathe/pipeline_parallel/partition.h"

#include <algorithm>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace lathe {
namespace {

absl::Status Refuse(std::string message) { return absl::InvalidArgumentError(std::move(message)); }

// Boundaries of stages with so many blocks each; the embedding joins the first, the head the last.
std::vector<int> Boundaries(const std::vector<int>& blocks) {
  std::vector<int> boundaries = {0};
  int layer = 1;
  for (const int count : blocks) boundaries.push_back(layer += count);
  ++boundaries.back();
  return boundaries;
}

// The last stage takes k blocks and the head, the others share the rest as evenly as can be, those
// behind taking one more: they keep fewer activations in flight. Of several best k the largest,
// since the others then have the least.
absl::StatusOr<std::vector<int>> ByCost(const PartitionOptions& o) {
  const int others = o.num_ranks - 1;
  if (others == 0) return std::vector<int>{o.num_blocks};
  if (o.num_blocks < others) {
    return Refuse(absl::StrCat("num_hidden_layers ", o.num_blocks,
                               " leaves stages without a layer; lower "
                               "--pipeline_model_parallel_size ",
                               o.num_ranks));
  }
  int best = 0;
  double best_cost = 0;
  for (int k = 0; k <= o.num_blocks - others; ++k) {
    const int most = (o.num_blocks - k + others - 1) / others;
    const double cost = std::max(most * o.block_cost, k * o.block_cost + o.head_cost);
    if (k == 0 || cost <= best_cost) {
      best = k;
      best_cost = cost;
    }
  }
  const int rest = o.num_blocks - best;
  std::vector<int> blocks(others, rest / others);
  for (int i = 0; i < rest % others; ++i) ++blocks[others - 1 - i];
  blocks.push_back(best);
  return blocks;
}

absl::StatusOr<std::vector<int>> Evenly(const PartitionOptions& o) {
  if (o.num_blocks % o.num_ranks != 0) {
    return Refuse(absl::StrCat("num_hidden_layers ", o.num_blocks,
                               " does not divide by --pipeline_model_parallel_size ", o.num_ranks,
                               "; change that, or --pipeline_model_parallel_layout even to flops"));
  }
  return std::vector<int>(o.num_ranks, o.num_blocks / o.num_ranks);
}

absl::StatusOr<LayerPartition> Virtual(const PartitionOptions& o) {
  const int per_stage = o.num_layers_per_virtual_stage;
  if (o.layout != "flops" && o.layout != "even") {
    return Refuse(
        "--num_layers_per_virtual_pipeline_stage and a pattern in --pipeline_model_parallel_layout "
        "both say what the stages hold; leave out one of them");
  }
  if (o.num_blocks % (o.num_ranks * per_stage) != 0) {
    return Refuse(absl::StrCat("num_hidden_layers ", o.num_blocks,
                               " does not divide by --pipeline_model_parallel_size ", o.num_ranks,
                               " times --num_layers_per_virtual_pipeline_stage ", per_stage,
                               "; change one of the two"));
  }
  const int num_stages = o.num_blocks / per_stage;
  return LayerPartition{Boundaries(std::vector<int>(num_stages, per_stage)),
                        num_stages / o.num_ranks};
}

// Longer than any pattern that is meant.
constexpr size_t kMaxExpanded = 1 << 16;

// Writes out the repetitions: "t*3|" → "ttt|".
class PatternExpander {
 public:
  explicit PatternExpander(std::string_view pattern) : pattern_(pattern) {}

  absl::StatusOr<std::string> Expand() {
    ABSL_ASSIGN_OR_RETURN(std::string expanded, Sequence(/*depth=*/0));
    if (at_ < pattern_.size()) return Error("a ) without its (");
    return expanded;
  }

 private:
  absl::Status Error(std::string_view what) const {
    return Refuse(absl::StrCat("--pipeline_model_parallel_layout ", pattern_, ": ", what,
                               " at character ", at_ + 1,
                               "; it is flops, even, or a pattern of E, t, L, |, *N and ( )"));
  }

  // Up to the end or a ).
  absl::StatusOr<std::string> Sequence(int depth) {
    constexpr int kMaxDepth = 16;
    if (depth > kMaxDepth) return Error("too many (");
    std::string expanded;
    while (at_ < pattern_.size() && pattern_[at_] != ')') {
      const char c = pattern_[at_];
      if (c == ',' || c == ' ') {
        ++at_;
        continue;
      }
      std::string atom(1, c);
      if (c == '(') {
        ++at_;
        ABSL_ASSIGN_OR_RETURN(atom, Sequence(depth + 1));
        if (at_ == pattern_.size()) return Error("a ( without its )");
      } else if (c != 'E' && c != 't' && c != 'L' && c != '|') {
        return Error(absl::StrCat("'", std::string(1, c), "' is not known"));
      }
      ++at_;
      ABSL_ASSIGN_OR_RETURN(const size_t times, Times());
      if (expanded.size() + times * atom.size() > kMaxExpanded) return Error("too many layers");
      for (size_t i = 0; i < times; ++i) expanded += atom;
    }
    return expanded;
  }

  // "*N" if it is there, else 1.
  absl::StatusOr<size_t> Times() {
    if (at_ == pattern_.size() || pattern_[at_] != '*') return 1;
    const size_t first = ++at_;
    while (at_ < pattern_.size() && pattern_[at_] >= '0' && pattern_[at_] <= '9') ++at_;
    uint32_t times = 0;
    if (!absl::SimpleAtoi(pattern_.substr(first, at_ - first), &times) || times == 0 ||
        times > kMaxExpanded) {
      return Error("* needs a number from 1 to 65536");
    }
    return times;
  }

  const std::string_view pattern_;
  size_t at_ = 0;
};

absl::StatusOr<LayerPartition> ByPattern(const PartitionOptions& o) {
  ABSL_ASSIGN_OR_RETURN(const std::string expanded, PatternExpander(o.layout).Expand());
  const auto error = [&](std::string_view what) {
    return Refuse(absl::StrCat("--pipeline_model_parallel_layout ", o.layout, " ", what));
  };
  std::string layers;
  LayerPartition partition{.boundaries = {0}};
  for (const std::string_view stage : absl::StrSplit(expanded, '|')) {
    if (stage.empty()) return error("has a stage without a layer");
    layers += stage;
    partition.boundaries.push_back(static_cast<int>(layers.size()));
  }
  const int num_stages = static_cast<int>(partition.boundaries.size()) - 1;
  if (num_stages % o.num_ranks != 0) {
    return error(absl::StrCat("has ", num_stages,
                              " stages, which do not divide by --pipeline_model_parallel_size ",
                              o.num_ranks));
  }
  if (layers.size() != static_cast<size_t>(o.num_blocks) + 2 || layers.front() != 'E' ||
      layers.back() != 'L' || std::count(layers.begin(), layers.end(), 't') != o.num_blocks) {
    return error(absl::StrCat("must have one E, ", o.num_blocks,
                              " t (num_hidden_layers) and one L, in this order"));
  }
  partition.num_chunks = num_stages / o.num_ranks;
  return partition;
}

}  // namespace

absl::StatusOr<LayerPartition> PartitionLayers(const PartitionOptions& options) {
  if (options.num_layers_per_virtual_stage > 0) return Virtual(options);
  if (options.layout != "flops" && options.layout != "even") return ByPattern(options);
  ABSL_ASSIGN_OR_RETURN(const std::vector<int> blocks,
                        options.layout == "even" ? Evenly(options) : ByCost(options));
  return LayerPartition{Boundaries(blocks), 1};
}

}  // namespace lathe
