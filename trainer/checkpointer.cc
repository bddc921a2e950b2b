#include "lathe/trainer/checkpointer.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "ATen/ops/full.h"
#include "ATen/ops/zeros.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/base/beacon.h"
#include "lathe/base/logging.h"
#include "lathe/base/read_file.h"
#include "lathe/checkpoint/checkpoint_directory.h"
#include "lathe/checkpoint/model_files.h"

namespace lathe {
RankGroup MakeRankGroup(const Communicator& group) {
  RankGroup ranks{.rank = group.rank(), .num_ranks = group.size()};
  if (group.size() == 1) return ranks;
  ranks.all_gather = [&group](std::string mine) {
    const at::Tensor sizes =
        group.AllGather(at::full({1}, static_cast<int64_t>(mine.size()), at::kLong)).view({-1});
    const int64_t width = std::max<int64_t>(1, sizes.max().item().toLong());
    at::Tensor padded = at::zeros({width}, at::kByte);
    std::memcpy(padded.data_ptr<uint8_t>(), mine.data(), mine.size());
    const at::Tensor all = group.AllGather(padded);
    std::vector<std::string> texts;
    for (int rank = 0; rank < group.size(); ++rank) {
      texts.emplace_back(reinterpret_cast<const char*>(all[rank].data_ptr<uint8_t>()),
                         sizes[rank].item().toLong());
    }
    return texts;
  };
  return ranks;
}

Checkpointer::Checkpointer(CheckpointerOptions options, ZeroOptimizer& optimizer,
                           const ParallelContext& context, std::unique_ptr<Communicator> save_group)
    : options_(std::move(options)),
      optimizer_(optimizer),
      context_(context),
      save_group_(std::move(save_group)) {}

absl::StatusOr<std::unique_ptr<Checkpointer>> Checkpointer::Create(CheckpointerOptions options,
                                                                   ZeroOptimizer& optimizer,
                                                                   const ParallelContext& context) {
  std::unique_ptr<Communicator> save_group;
  if (options.async_save) {
    ABSL_ASSIGN_OR_RETURN(save_group, context.NewWorldGroup("save"));
  }
  return std::unique_ptr<Checkpointer>(
      new Checkpointer(std::move(options), optimizer, context, std::move(save_group)));
}

Checkpointer::~Checkpointer() {
  if (saving()) save_.wait();
}

std::vector<NamedTensor> WeightsInFile(const WeightsFile& file, const ZeroOptimizer& optimizer) {
  std::vector<NamedTensor> all = optimizer.Weights(file.dtype);
  if (!file.name_in_file) return all;
  std::vector<NamedTensor> saved;
  for (NamedTensor& tensor : all) {
    tensor.name = file.name_in_file(tensor.name);
    if (!tensor.name.empty()) saved.push_back(std::move(tensor));
  }
  return saved;
}

absl::Status Checkpointer::WriteModel(AtomicDirectory& directory,
                                      absl::Span<const NamedTensor> weights) const {
  ABSL_RETURN_IF_ERROR(SaveTensors(directory, options_.weights.stem, weights));
  if (directory.group().rank == 0) {
    for (const auto& [name, bytes] : options_.model_files) directory.WriteFile(name, bytes);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Checkpointer::Write(const Snapshot& snapshot,
                                                const RankGroup& ranks) const {
  const std::string name = CheckpointName(snapshot.step);
  ABSL_ASSIGN_OR_RETURN(std::unique_ptr<AtomicDirectory> directory,
                        AtomicDirectory::Create(options_.output_dir, name, ranks));
  ABSL_RETURN_IF_ERROR(WriteModel(*directory, snapshot.weights));
  ABSL_RETURN_IF_ERROR(SaveTensors(*directory, "optimizer", snapshot.states));
  if (ranks.rank == 0) {
    directory->WriteFile("trainer_state.json", snapshot.trainer_state);
    directory->WriteFile("lathe_state.json", snapshot.loop_state);
  }
  ABSL_RETURN_IF_ERROR(directory->Commit());
  absl::Status rotated;
  if (ranks.rank == 0) {
    rotated = RotateCheckpoints(options_.output_dir, options_.save_total_limit, snapshot.protect);
  }
  ABSL_RETURN_IF_ERROR(ranks.Agree(rotated));
  return absl::StrCat(options_.output_dir, "/", name);
}

absl::Status Checkpointer::Copy(Snapshot& snapshot) {
  try {
    snapshot.weights = staged_weights_.Copy(snapshot.weights);
    snapshot.states = staged_states_.Copy(snapshot.states);
  } catch (const std::exception&) {
    return absl::ResourceExhaustedError(
        "no memory for the copy that --async_save writes, of all weights and optimizer states that "
        "this rank saves; leave the flag out");
  }
  return absl::OkStatus();
}

void Checkpointer::BeginSave(const TrainerState& state, const LoopState& loop) {
  CHECK(!saving()) << "FinishSave comes before the next BeginSave";
  BeginPhase(Phase::kSave, state.global_step);
  LoopState marked = loop;
  marked.optimizer = optimizer_.rules().name;
  Snapshot snapshot{.step = state.global_step,
                    .weights = Weights(),
                    .states = optimizer_.States(),
                    .trainer_state = state.ToJson(),
                    .loop_state = marked.ToJson(),
                    .protect = {CheckpointName(state.global_step)}};
  if (state.best_model_checkpoint) snapshot.protect.push_back(*state.best_model_checkpoint);
  if (!options_.async_save) {
    std::promise<absl::StatusOr<std::string>> done;
    save_ = done.get_future();
    done.set_value(Write(snapshot, MakeRankGroup(context_.World())));
    return;
  }
  std::promise<void> copied;
  copy_ = copied.get_future();
  save_ = std::async(std::launch::async,
                     [this, snapshot = std::move(snapshot),
                      copied = std::move(copied)]() mutable -> absl::StatusOr<std::string> {
                       const HideCollectives hidden;
                       const absl::Status copy = Copy(snapshot);
                       // Whatever came of it: the update waits for this.
                       copied.set_value();
                       // Reports to the training thread, which meets the ranks in FinishSave.
                       try {
                         const RankGroup ranks = MakeRankGroup(*save_group_);
                         ABSL_RETURN_IF_ERROR(ranks.Agree(copy));
                         return Write(snapshot, ranks);
                       } catch (const std::exception& e) {
                         return absl::UnavailableError(e.what());
                       }
                     });
}

void Checkpointer::WaitForCopy() const {
  if (copy_.valid()) copy_.wait();
}

bool Checkpointer::save_is_over() const {
  return saving() && save_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

absl::StatusOr<std::string> Checkpointer::FinishSave() {
  CHECK(saving()) << "BeginSave comes first";
  const InCollective waits("save", "save");
  return save_.get();
}

LoadOptions Checkpointer::OthersTensors(absl::Span<const NamedTensor> mine) const {
  const RankGroup stages = MakeRankGroup(context_.Group({"pp"}));
  return {.surplus_ok = [names = NamesOnAllRanks(stages, mine)](std::string_view name) {
    return names.contains(name);
  }};
}

absl::Status Checkpointer::LoadMyWeights(const std::string& checkpoint,
                                         const LoadOptions& options) {
  ABSL_ASSIGN_OR_RETURN(const ModelFiles weights,
                        ModelFiles::Open(checkpoint, options_.weights.stem));
  return LoadTensors(weights, Weights(), options);
}

absl::Status Checkpointer::LoadMine(const std::string& checkpoint, const LoadOptions& weights,
                                    const LoadOptions& states, TrainerState* state,
                                    LoopState* loop) {
  const std::string state_file = checkpoint + "/trainer_state.json";
  const std::string loop_file = checkpoint + "/lathe_state.json";
  ABSL_ASSIGN_OR_RETURN(const std::string state_text, ReadFile(state_file));
  ABSL_ASSIGN_OR_RETURN(*state, TrainerState::FromJson(state_text, state_file));
  ABSL_ASSIGN_OR_RETURN(const std::string loop_text, ReadFile(loop_file));
  ABSL_ASSIGN_OR_RETURN(*loop, LoopState::FromJson(loop_text, loop_file));
  const std::string& name = optimizer_.rules().name;
  if (loop->optimizer != name) {
    return absl::InvalidArgumentError(
        absl::StrCat(checkpoint, " is of the optimizer ", loop->optimizer, ", this run's is ", name,
                     ": its states do not fit; go on with the same --optim and --optim_args"));
  }
  ABSL_RETURN_IF_ERROR(LoadMyWeights(checkpoint, weights));
  // After the weights: where the optimizer has masters, they say more than the saved weights.
  ABSL_ASSIGN_OR_RETURN(const ModelFiles files, ModelFiles::Open(checkpoint, "optimizer"));
  return LoadTensors(files, optimizer_.States(), states);
}

absl::Status Checkpointer::Load(const std::string& checkpoint, TrainerState* state,
                                LoopState* loop) {
  const LoadOptions weights = OthersTensors(Weights());
  const LoadOptions states = OthersTensors(optimizer_.States());
  // A rank that cannot read must not leave the others waiting in the first step.
  ABSL_RETURN_IF_ERROR(
      MakeRankGroup(context_.World()).Agree(LoadMine(checkpoint, weights, states, state, loop)));
  optimizer_.AfterLoad();
  return absl::OkStatus();
}

absl::Status Checkpointer::LoadWeights(const std::string& checkpoint) {
  const LoadOptions weights = OthersTensors(Weights());
  ABSL_RETURN_IF_ERROR(MakeRankGroup(context_.World()).Agree(LoadMyWeights(checkpoint, weights)));
  optimizer_.AfterLoad();
  return absl::OkStatus();
}

absl::Status Checkpointer::RemoveOthers(const std::string& checkpoint) {
  absl::Status removed;
  if (context_.rank() == 0) removed = RemoveOtherCheckpoints(options_.output_dir, checkpoint);
  return MakeRankGroup(context_.World()).Agree(removed);
}

absl::Status Checkpointer::SaveModel(const std::map<std::string, std::string>& extra_files) {
  BeginPhase(Phase::kSave);
  ABSL_ASSIGN_OR_RETURN(
      std::unique_ptr<AtomicDirectory> directory,
      AtomicDirectory::Create(options_.output_dir, "model", MakeRankGroup(context_.World())));
  ABSL_RETURN_IF_ERROR(WriteModel(*directory, Weights()));
  if (context_.rank() == 0) {
    for (const auto& [name, bytes] : extra_files) directory->WriteFile(name, bytes);
  }
  return directory->CommitIntoParent();
}

}  // namespace lathe
