#include "lathe/launchers/pretraining.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/base/beacon.h"
#include "lathe/base/logging.h"
#include "lathe/datasets/group_texts.h"
#include "lathe/datasets/jsonl_source.h"
#include "lathe/datasets/tokenize.h"
#include "lathe/trainer/progress_bar.h"
#include "lathe/trainer/stop_request.h"

namespace lathe {
namespace {

absl::StatusOr<std::shared_ptr<const TokenStore>> Tokenize(const DataArguments& data,
                                                           const Tokenizer& tokenizer,
                                                           const std::vector<std::string>& files,
                                                           bool shows_progress) {
  const JsonlOptions options{
      .text_column = data.text_column_name(),
      .on_bad_record = data.on_bad_record() == "skip" ? OnBadRecord::kSkip : OnBadRecord::kFail};
  ABSL_ASSIGN_OR_RETURN(const JsonlSource source, JsonlSource::Open(files, options));
  if (source.num_skipped() > 0) {
    LOG(WARNING) << source.num_skipped() << " bad lines were skipped (--on_bad_record skip)";
  }
  ProgressBar bar(
      {.total_steps = source.size(), .title = "Tokenising", .disabled = !shows_progress});
  const auto encode = [&](std::string_view text, std::vector<int32_t>* ids) {
    return tokenizer.EncodeAppend(text, /*add_special_tokens=*/true, ids);
  };
  const TokenizeOptions tokenize{
      .num_workers = data.preprocessing_num_workers(),
      .progress = [&](int64_t done, int64_t) { bar.Update({.step = done}); },
      .before_document = []() -> absl::Status {
        if (StopRequested()) return absl::CancelledError("stopped by a signal while tokenising");
        GiveSign();
        return absl::OkStatus();
      }};
  ABSL_ASSIGN_OR_RETURN(TokenStore store, TokenizeDocuments(source, encode, tokenize));
  bar.Finish();
  LOG(INFO) << "Tokenised " << store.num_documents() << " documents: " << store.num_tokens()
            << " tokens";
  return std::make_shared<const TokenStore>(std::move(store));
}

absl::StatusOr<std::shared_ptr<const Dataset>> Group(const DataArguments& data,
                                                     std::shared_ptr<const TokenStore> tokens,
                                                     int64_t first, int64_t last,
                                                     int64_t max_samples) {
  ABSL_ASSIGN_OR_RETURN(
      std::shared_ptr<const Dataset> blocks,
      GroupTexts(std::move(tokens), {.block_size = data.block_size(),
                                     .num_shards = data.preprocessing_num_workers(),
                                     .first_document = first,
                                     .last_document = last}));
  if (max_samples <= 0 || max_samples >= blocks->size()) return blocks;
  return std::make_shared<SliceDataset>(blocks, 0, max_samples);
}

}  // namespace

absl::StatusOr<TaskData> Pretraining::BuildData(const RunConfig& run, const Tokenizer& tokenizer,
                                                bool shows_progress) const {
  const DataArguments& data = config_.data();
  shows_progress = shows_progress && !run.training().disable_tqdm();
  const std::vector<std::string> train_files(data.train_files().begin(), data.train_files().end());
  const std::vector<std::string> eval_files(data.validation_files().begin(),
                                            data.validation_files().end());
  if (train_files.empty())
    return absl::InvalidArgumentError("--train_files is missing: JSONL files with the text");
  const bool evaluates = run.training().eval_strategy() != "no" || run.training().do_eval();
  if (evaluates && eval_files.empty() && data.validation_split_percentage() == 0) {
    return absl::InvalidArgumentError(
        "evaluation is asked for, but there are no data for it; give --validation_files or "
        "--validation_split_percentage, or --eval_strategy no");
  }
  TaskData result;
  ABSL_ASSIGN_OR_RETURN(const std::shared_ptr<const TokenStore> tokens,
                        Tokenize(data, tokenizer, train_files, shows_progress));
  // As run_clm: the first documents are held out.
  const bool splits = evaluates && eval_files.empty();
  const int64_t held_out =
      splits ? PercentageOf(tokens->num_documents(), data.validation_split_percentage()) : 0;
  ABSL_ASSIGN_OR_RETURN(result.train, Group(data, tokens, held_out, -1, data.max_train_samples()));
  if (!evaluates) return result;
  if (splits && held_out == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--validation_split_percentage ", data.validation_split_percentage(), " of ",
        tokens->num_documents(), " documents is none; raise it or give --validation_files"));
  }
  if (splits) {
    ABSL_ASSIGN_OR_RETURN(result.eval, Group(data, tokens, 0, held_out, data.max_eval_samples()));
    return result;
  }
  ABSL_ASSIGN_OR_RETURN(const std::shared_ptr<const TokenStore> eval_tokens,
                        Tokenize(data, tokenizer, eval_files, shows_progress));
  ABSL_ASSIGN_OR_RETURN(result.eval, Group(data, eval_tokens, 0, -1, data.max_eval_samples()));
  return result;
}

}  // namespace lathe
