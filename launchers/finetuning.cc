#include "lathe/launchers/finetuning.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/base/beacon.h"
#include "lathe/base/logging.h"
#include "lathe/datasets/chat_dataset.h"
#include "lathe/datasets/chat_labels.h"
#include "lathe/datasets/chat_templates/chat_template.h"
#include "lathe/datasets/jsonl_source.h"
#include "lathe/datasets/tokenize.h"
#include "lathe/launchers/task_builders.h"
#include "lathe/peft/adapter_by_flags.h"
#include "lathe/trainer/progress_bar.h"
#include "lathe/trainer/stop_request.h"

namespace lathe {
namespace {

// --chat_template, or the model's own, if it has one.
absl::StatusOr<std::optional<ChatTemplate>> BuildChatTemplate(const ChatArguments& data,
                                                              const std::string& tokenizer_folder) {
  if (data.has_chat_template()) {
    return ChatTemplate::LoadNamed(data.chat_template(), tokenizer_folder);
  }
  absl::StatusOr<ChatTemplate> own = ChatTemplate::Load(tokenizer_folder);
  if (absl::IsNotFound(own.status())) return std::nullopt;
  return own;
}

class ChatReader {
 public:
  static absl::StatusOr<ChatReader> Create(const ChatArguments& data, const RunConfig& run,
                                           const Tokenizer& tokenizer, bool shows_progress) {
    ABSL_ASSIGN_OR_RETURN(std::optional<ChatTemplate> chat,
                          BuildChatTemplate(data, TokenizerFolder(run)));
    ABSL_ASSIGN_OR_RETURN(const LabelMask mask, ParseLabelMask(data.label_mask()));
    if (mask == LabelMask::kSeed) {
      LOG(WARNING) << "--label_mask seed learns the marks of every turn, the user's too, as the "
                      "chapter's code does; its padding tokens are -100 here";
    }
    return ChatReader(
        {.mask = mask, .train_on_prompt = data.train_on_prompt(), .max_length = data.max_length()},
        std::move(chat), tokenizer, data.preprocessing_num_workers(),
        run.training().disable_tqdm() || !shows_progress);
  }

  absl::StatusOr<std::shared_ptr<const Dataset>> Read(const std::vector<std::string>& files) const {
    ABSL_ASSIGN_OR_RETURN(const JsonlSource source, JsonlSource::Open(files, {.text_column = ""}));
    ProgressBar bar(
        {.total_steps = source.size(), .title = "Reading chats", .disabled = !shows_bar_});
    const TokenizeOptions options{
        .num_workers = num_workers_,
        .progress = [&](int64_t done, int64_t) { bar.Update({.step = done}); },
        .before_document = []() -> absl::Status {
          if (StopRequested()) return absl::CancelledError("stopped by a signal while tokenising");
          GiveSign();
          return absl::OkStatus();
        }};
    ABSL_ASSIGN_OR_RETURN(
        std::shared_ptr<const Dataset> chats,
        ChatDataset::Create(source, labels_, chat_ ? &*chat_ : nullptr, tokenizer_, options));
    bar.Finish();
    int64_t tokens = 0, learnt = 0;
    for (int64_t i = 0; i < chats->size(); ++i) {
      const Sample sample = chats->Get(i);
      tokens += static_cast<int64_t>(sample.labels.size());
      for (const int32_t label : sample.labels) learnt += label != kIgnoredLabel;
    }
    LOG(INFO) << "Read " << chats->size() << " chats: " << tokens << " tokens, of which " << learnt
              << " are learnt";
    return chats;
  }

 private:
  ChatReader(const LabelOptions& labels, std::optional<ChatTemplate> chat,
             const Tokenizer& tokenizer, int num_workers, bool disabled)
      : labels_(labels),
        chat_(std::move(chat)),
        tokenizer_(tokenizer),
        num_workers_(num_workers),
        shows_bar_(!disabled) {}

  LabelOptions labels_;
  std::optional<ChatTemplate> chat_;
  const Tokenizer& tokenizer_;
  int num_workers_;
  bool shows_bar_;
};

std::shared_ptr<const Dataset> First(std::shared_ptr<const Dataset> samples, int64_t most) {
  if (most <= 0 || most >= samples->size()) return samples;
  return std::make_shared<SliceDataset>(std::move(samples), 0, most);
}

// Padding is masked by place, so any id will do.
int32_t PadId(const Tokenizer& tokenizer) {
  return tokenizer.pad_id().value_or(tokenizer.eos_id().value_or(0));
}

}  // namespace

absl::StatusOr<TaskShape> Finetuning::Shape() const {
  TaskShape shape{.seq_len = config_.data().max_length(),
                  .adapter_folder = config_.peft().adapter_name_or_path(),
                  .resizes_vocabulary = true};
  ABSL_ASSIGN_OR_RETURN(shape.adapter, AdapterByFlags(config_.peft()));
  return shape;
}

absl::StatusOr<TaskData> Finetuning::BuildData(const RunConfig& run, const Tokenizer& tokenizer,
                                               bool shows_progress) const {
  const ChatArguments& data = config_.data();
  const std::vector<std::string> train_files(data.train_files().begin(), data.train_files().end());
  const std::vector<std::string> eval_files(data.validation_files().begin(),
                                            data.validation_files().end());
  if (train_files.empty())
    return absl::InvalidArgumentError("--train_files is missing: JSONL files with the chats");
  const bool evaluates = run.training().eval_strategy() != "no" || run.training().do_eval();
  if (evaluates && eval_files.empty() && data.validation_split_percentage() == 0) {
    return absl::InvalidArgumentError(
        "evaluation is asked for, but there are no data for it; give --validation_files or "
        "--validation_split_percentage, or --eval_strategy no");
  }
  ABSL_ASSIGN_OR_RETURN(const ChatReader reader,
                        ChatReader::Create(data, run, tokenizer, shows_progress));
  TaskData result{.pad_id = PadId(tokenizer)};
  ABSL_ASSIGN_OR_RETURN(std::shared_ptr<const Dataset> chats, reader.Read(train_files));
  if (evaluates && eval_files.empty()) {
    const int64_t held_out = PercentageOf(chats->size(), data.validation_split_percentage());
    if (held_out == 0 || held_out == chats->size()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--validation_split_percentage ", data.validation_split_percentage(), " of ",
          chats->size(), " chats leaves ", held_out == 0 ? "none to evaluate on" : "none to learn",
          "; change it or give --validation_files"));
    }
    result.eval =
        First(std::make_shared<SliceDataset>(chats, 0, held_out), data.max_eval_samples());
    chats = std::make_shared<SliceDataset>(chats, held_out, chats->size());
  } else if (evaluates) {
    ABSL_ASSIGN_OR_RETURN(std::shared_ptr<const Dataset> eval, reader.Read(eval_files));
    result.eval = First(std::move(eval), data.max_eval_samples());
  }
  result.train = First(std::move(chats), data.max_train_samples());
  return result;
}

}  // namespace lathe
