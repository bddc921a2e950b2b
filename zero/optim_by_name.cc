#include "lathe/zero/optim_by_name.h"

#include <functional>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace lathe {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <typename... Parts>
absl::Status Wrong(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat("--optim_args: ", parts...));
}

// The pairs of --optim_args, each of which must be taken.
class Arguments {
 public:
  static absl::StatusOr<Arguments> Parse(std::string_view optim, std::string_view text) {
    Arguments arguments;
    arguments.optim_ = optim;
    // Spaces mean nothing, as in transformers.
    const std::string packed = absl::StrReplaceAll(text, {{" ", ""}});
    if (packed.empty()) return arguments;
    for (const std::string_view pair : absl::StrSplit(packed, ',')) {
      const std::vector<std::string> sides = absl::StrSplit(pair, '=');
      if (sides.size() != 2 || sides[0].empty() || sides[1].empty()) {
        return Wrong("'", pair, "' is not KEY=VALUE");
      }
      if (!arguments.values_.emplace(sides[0], sides[1]).second) {
        return Wrong("'", sides[0], "' is there twice");
      }
    }
    return arguments;
  }

  void Number(const std::string& key, double min, double below, double* value) {
    Take(key, [&](const std::string& text) {
      double parsed = 0;
      if (!absl::SimpleAtod(text, &parsed) || !(parsed >= min) || !(parsed < below)) {
        Fail(key, text, absl::StrCat("a number from ", min, " to below ", below));
      } else {
        *value = parsed;
      }
    });
  }

  void Truth(const std::string& key, bool* value) {
    Take(key, [&](const std::string& text) {
      const std::string word = absl::AsciiStrToLower(text);
      // transformers takes every other word for false.
      if (word == "true" || word == "1" || word == "yes") {
        *value = true;
      } else if (word == "false" || word == "0" || word == "no") {
        *value = false;
      } else {
        Fail(key, text, "true or false");
      }
    });
  }

  void Word(const std::string& key, const std::vector<std::string>& words, std::string* value) {
    Take(key, [&](const std::string& text) {
      for (const std::string& word : words) {
        if (text == word) {
          *value = word;
          return;
        }
      }
      Fail(key, text, absl::StrJoin(words, " or "));
    });
  }

  // A key that others have, and why it is not here.
  void Refuse(const std::string& key, std::string_view why) {
    const auto found = values_.find(key);
    if (found != values_.end()) status_.Update(Wrong("'", key, "' is refused: ", why));
  }

  // After all keys: what was wrong, or is left.
  absl::Status Finish() const {
    if (!status_.ok() || values_.empty()) return status_;
    return Wrong("--optim ", optim_, " has no '", values_.begin()->first, "'; it has ",
                 known_.empty() ? "none" : absl::StrJoin(known_, ", "));
  }

 private:
  void Take(const std::string& key, const std::function<void(const std::string&)>& read) {
    known_.push_back(key);
    const auto found = values_.find(key);
    if (found == values_.end()) return;
    read(found->second);
    values_.erase(found);
  }

  void Fail(const std::string& key, const std::string& text, std::string_view expected) {
    status_.Update(Wrong(key, ": expected ", expected, ", got '", text, "'"));
  }

  std::string optim_;
  std::map<std::string, std::string> values_;
  std::vector<std::string> known_;
  absl::Status status_;
};

absl::StatusOr<RuleSet> MakeSgd(Arguments& arguments) {
  SgdOptions options;
  arguments.Number("momentum", 0, 1, &options.momentum);
  arguments.Number("dampening", 0, 1, &options.dampening);
  arguments.Truth("nesterov", &options.nesterov);
  arguments.Refuse("weight_decay", "--weight_decay says it, as it does under transformers");
  if (options.nesterov && (options.momentum == 0 || options.dampening != 0)) {
    return Wrong("nesterov needs a momentum above 0 and no dampening");
  }
  return SgdRules(options);
}

RuleSet MakeMuon(const AdamOptions& adam, Arguments& arguments) {
  MuonOptions options;
  std::string rate = "original";
  double steps = options.newton_schulz_steps;
  arguments.Number("momentum", 0, 1, &options.momentum);
  arguments.Truth("nesterov", &options.nesterov);
  arguments.Number("ns_steps", 1, 100, &steps);
  arguments.Word("adjust_lr_fn", {"original", "match_rms_adamw"}, &rate);
  options.newton_schulz_steps = static_cast<int>(steps);
  if (rate != "original") options.rate = MuonOptions::Rate::kMatchRmsAdamW;
  return MuonRules(options, adam);
}

RuleSet MakeAdafactor(Arguments& arguments) {
  AdafactorOptions options;
  arguments.Number("clip_threshold", 1e-30, kInfinity, &options.clip_threshold);
  arguments.Number("decay_rate", -kInfinity, 0, &options.decay_rate);
  return AdafactorRules(options);
}

// With the states' type, for those that can have them in bfloat16.
RuleSet WithStateType(RuleSet rules, Arguments& arguments) {
  std::string type = "fp32";
  arguments.Word("state_dtype", {"fp32", "bf16"}, &type);
  return type == "bf16" ? WithBf16States(std::move(rules)) : rules;
}

}  // namespace

absl::StatusOr<RuleSet> RulesByName(std::string_view optim, std::string_view optim_args,
                                    const AdamOptions& adam) {
  ABSL_ASSIGN_OR_RETURN(Arguments arguments, Arguments::Parse(optim, optim_args));
  absl::StatusOr<RuleSet> rules =
      absl::InvalidArgumentError(absl::StrCat("--optim: '", optim, "' is not there"));
  if (optim == "adamw_torch" || optim == "adamw_torch_fused") {
    rules = WithStateType(AdamWRules(adam), arguments);
  } else if (optim == "adam") {
    rules = WithStateType(AdamRules(adam), arguments);
  } else if (optim == "adamw_8bit" || optim == "adamw_bnb_8bit") {
    rules = WithEightBitStates(AdamWRules(adam));
  } else if (optim == "sgd") {
    rules = MakeSgd(arguments);
  } else if (optim == "lion_32bit") {
    rules = WithStateType(LionRules({.beta1 = adam.beta1, .beta2 = adam.beta2}), arguments);
  } else if (optim == "lion_8bit") {
    rules = WithEightBitStates(LionRules({.beta1 = adam.beta1, .beta2 = adam.beta2}));
  } else if (optim == "muon") {
    rules = MakeMuon(adam, arguments);
  } else if (optim == "adafactor") {
    rules = MakeAdafactor(arguments);
  }
  ABSL_RETURN_IF_ERROR(rules.status());
  ABSL_RETURN_IF_ERROR(arguments.Finish());
  return rules;
}

}  // namespace lathe
