#ifndef LATHE_DATASETS_GROUP_TEXTS_H_
#define LATHE_DATASETS_GROUP_TEXTS_H_

// The group_texts of Hugging Face's run_clm.py: documents are joined, nothing between them, and cut
// into blocks of equal length.
//
//   auto tokens = std::make_shared<const TokenStore>(*std::move(store));
//   ABSL_ASSIGN_OR_RETURN(std::shared_ptr<BlockDataset> blocks,
//                         GroupTexts(tokens, {.block_size = 1024}));
//
// As `dataset.map(group_texts, batched=True, batch_size=40000, num_proc=k)` does it, documents are
// first dealt into k contiguous shards (the first n mod k have one more) and each shard into
// batches; what is left of a batch behind its last whole block is dropped. So k changes the result.
// Where Hugging Face keeps the short block of a batch that is smaller than one block, which its
// collator cannot stack then, it is dropped and counted.

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "lathe/datasets/dataset.h"
#include "lathe/datasets/token_store.h"

namespace lathe {

struct GroupOptions {
  int64_t block_size = 1024;
  // Documents in one call of group_texts.
  int64_t batch_size = 40000;
  // The num_proc of datasets.map.
  int64_t num_shards = 1;
  // Only the documents [first_document, last_document); -1 is all to the end.
  int64_t first_document = 0;
  int64_t last_document = -1;
};

// Blocks of block_size tokens, every one of which is learnt. They lie in the TokenStore; nothing is
// copied.
class BlockDataset : public Dataset {
 public:
  int64_t size() const override { return static_cast<int64_t>(starts_.size()); }
  Sample Get(int64_t index) const override;

  int64_t block_size() const { return block_size_; }

  // Tokens that are in no block, and the batches that were smaller than one block.
  int64_t num_dropped_tokens() const { return num_dropped_tokens_; }
  int64_t num_short_batches() const { return num_short_batches_; }

 private:
  friend absl::StatusOr<std::shared_ptr<BlockDataset>> GroupTexts(
      std::shared_ptr<const TokenStore> tokens, const GroupOptions& options);

  BlockDataset(std::shared_ptr<const TokenStore> tokens, int64_t block_size);
  void AddBatch(int64_t first_document, int64_t last_document);

  std::shared_ptr<const TokenStore> tokens_;
  int64_t block_size_;
  std::vector<int64_t> starts_;  // of each block in the store
  int64_t num_dropped_tokens_ = 0;
  int64_t num_short_batches_ = 0;
};

// Logs a warning when batches were smaller than a block. Errors: InvalidArgument when block_size is
// not positive, or when there is not one whole block: how many tokens there are, and that
// --block_size may be lowered.
absl::StatusOr<std::shared_ptr<BlockDataset>> GroupTexts(std::shared_ptr<const TokenStore> tokens,
                                                         const GroupOptions& options);

}  // namespace lathe

#endif  // LATHE_DATASETS_GROUP_TEXTS_H_
