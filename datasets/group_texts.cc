#include "lathe/datasets/group_texts.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "lathe/base/logging.h"

namespace lathe {

BlockDataset::BlockDataset(std::shared_ptr<const TokenStore> tokens, int64_t block_size)
    : tokens_(std::move(tokens)), block_size_(block_size) {}

Sample BlockDataset::Get(int64_t index) const {
  CHECK(0 <= index && index < size()) << index << " of " << size();
  const absl::Span<const int32_t> all = tokens_->Tokens(0, tokens_->num_documents());
  const absl::Span<const int32_t> block = all.subspan(starts_[index], block_size_);
  return {block, block};
}

void BlockDataset::AddBatch(int64_t first_document, int64_t last_document) {
  const int64_t end = tokens_->TokenIndex(last_document);
  int64_t start = tokens_->TokenIndex(first_document);
  if (end > start && end - start < block_size_) ++num_short_batches_;
  for (; end - start >= block_size_; start += block_size_) starts_.push_back(start);
  num_dropped_tokens_ += end - start;
}

absl::StatusOr<std::shared_ptr<BlockDataset>> GroupTexts(std::shared_ptr<const TokenStore> tokens,
                                                         const GroupOptions& options) {
  if (options.block_size < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--block_size is ", options.block_size, "; it must be at least 1"));
  }
  const int64_t first = options.first_document;
  const int64_t last = options.last_document < 0 ? tokens->num_documents() : options.last_document;
  CHECK(0 <= first && first <= last && last <= tokens->num_documents())
      << "documents [" << first << ", " << last << ") of " << tokens->num_documents();
  CHECK_GE(options.batch_size, 1);

  auto blocks = std::shared_ptr<BlockDataset>(new BlockDataset(tokens, options.block_size));
  // As datasets.map: never more shards than documents.
  const int64_t num_documents = last - first;
  const int64_t num_shards =
      std::clamp<int64_t>(options.num_shards, 1, std::max<int64_t>(num_documents, 1));
  int64_t begin = first;
  for (int64_t shard = 0; shard < num_shards; ++shard) {
    const int64_t end =
        begin + num_documents / num_shards + (shard < num_documents % num_shards ? 1 : 0);
    for (; begin < end; begin += std::min(options.batch_size, end - begin)) {
      blocks->AddBatch(begin, std::min(begin + options.batch_size, end));
    }
  }
  if (blocks->size() == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the data set has no block of ", options.block_size, " tokens: its ", num_documents,
        " documents have ", tokens->TokenIndex(last) - tokens->TokenIndex(first),
        num_shards > 1 ? absl::StrCat(" tokens in ", num_shards, " shards")
                       : std::string(" tokens"),
        "; lower --block_size or give more text"));
  }
  if (blocks->num_short_batches() > 0) {
    LOG(WARNING) << blocks->num_short_batches() << " batches of documents had fewer than "
                 << options.block_size << " tokens (--block_size) and were dropped";
  }
  return blocks;
}

}  // namespace lathe
