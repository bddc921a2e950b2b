#ifndef LATHE_TRAINER_TRAINING_ARGUMENTS_H_
#define LATHE_TRAINER_TRAINING_ARGUMENTS_H_

// What --help cannot say about TrainingArguments field by field: how they hang together.
//
//   ABSL_RETURN_IF_ERROR(CheckTrainingArguments(config.training()));
//   int64_t save_steps = NumSteps(config.training().save_steps(), max_steps);
//
// Pure functions: call from any thread.
//
// Source: transformers 5.17 training_args.py, __post_init__ and _validate_args.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "lathe/trainer/training_arguments.pb.h"

namespace lathe {

// Refuses combinations that cannot work: strategies without steps, a best model without evaluations
// to tell which, or with checkpoints at other steps than evaluations, or by a metric that is not
// measured, early stopping without evaluation, a schedule's kwargs, recompute flags that do not go
// together. Errors: InvalidArgument, naming the flags.
absl::Status CheckTrainingArguments(const TrainingArguments& arguments);

// A count of steps that may be given as a share of the run: `value` itself from 1 on, below 1
// ceil(value * max_steps).
int64_t NumSteps(double value, int64_t max_steps);

// --eval_steps; where that is not given or 0, --logging_steps if evaluation goes by steps, and
// otherwise the 500 that Hugging Face then has in trainer_state.json.
double EvalSteps(const TrainingArguments& arguments);

// Whether evaluations are compared at all: somebody asked for the best model, its checkpoint, or
// for an end when nothing gets better.
bool TracksBestModel(const TrainingArguments& arguments);

// The metric that decides, with its "eval_" ("eval_loss"), and whether more of it is better.
std::string MetricForBestModel(const TrainingArguments& arguments);
bool GreaterIsBetter(const TrainingArguments& arguments);

// What --gradient_checkpointing and the --recompute_ flags have computed again in backward.
struct Recomputation {
  int num_layers = 0;  // from the first on, each from its input; INT_MAX: all
  bool mlp = false;    // of every layer, from its input
};
Recomputation WhatIsRecomputed(const TrainingArguments& arguments);

// --report_to without doubles, "none" and "all": some of tensorboard, swanlab, wandb.
std::vector<std::string> ReportTargets(const TrainingArguments& arguments);

}  // namespace lathe

#endif  // LATHE_TRAINER_TRAINING_ARGUMENTS_H_
