#include "lathe/zero/optim_by_name.h"

#include <string>
#include <vector>

#include "ATen/ops/empty.h"
#include "gtest/gtest.h"
#include "lathe/layers/parameter.h"
#include "lathe/zero/rule_set.h"

namespace lathe {
namespace {

std::string NameOf(const char* optim, const char* args) {
  const auto rules = RulesByName(optim, args, {});
  return rules.ok() ? rules->name : std::string(rules.status().message());
}

TEST(OptimByNameTest, Names) {
  EXPECT_EQ(NameOf("adamw_torch", ""), "adamw");
  EXPECT_EQ(NameOf("adamw_torch_fused", ""), "adamw");
  EXPECT_EQ(NameOf("adam", ""), "adam");
  EXPECT_EQ(NameOf("sgd", ""), "sgd");
  EXPECT_EQ(NameOf("sgd", "momentum=0.9, nesterov=True"), "sgd with momentum");
  EXPECT_EQ(NameOf("lion_32bit", ""), "lion");
  EXPECT_EQ(NameOf("adamw_torch", "state_dtype=bf16"), "adamw");
  EXPECT_EQ(NameOf("adamw_8bit", ""), "adamw_8bit");
  EXPECT_EQ(NameOf("adamw_bnb_8bit", ""), "adamw_8bit");
  EXPECT_EQ(NameOf("lion_8bit", ""), "lion_8bit");
  EXPECT_EQ(NameOf("muon", "adjust_lr_fn=match_rms_adamw,ns_steps=6"), "muon");
  EXPECT_EQ(NameOf("adafactor", "clip_threshold=2"), "adafactor");
  EXPECT_EQ(NameOf("adagrad", ""), "--optim: 'adagrad' is not there");
}

TEST(OptimByNameTest, Arguments) {
  EXPECT_EQ(NameOf("adamw_8bit", "state_dtype=bf16"),
            "--optim_args: --optim adamw_8bit has no 'state_dtype'; it has none");
  EXPECT_EQ(NameOf("muon", "adjust_lr_fn=keller"),
            "--optim_args: adjust_lr_fn: expected original or match_rms_adamw, got 'keller'");
  EXPECT_EQ(NameOf("lion_32bit", "momentum=0.9"),
            "--optim_args: --optim lion_32bit has no 'momentum'; it has state_dtype");
  EXPECT_EQ(NameOf("sgd", "momentun=0.9"),
            "--optim_args: --optim sgd has no 'momentun'; it has momentum, dampening, nesterov");
  EXPECT_EQ(NameOf("sgd", "momentum=1"),
            "--optim_args: momentum: expected a number from 0 to below 1, got '1'");
  EXPECT_EQ(NameOf("sgd", "momentum=0.9,nesterov=maybe"),
            "--optim_args: nesterov: expected true or false, got 'maybe'");
  EXPECT_EQ(NameOf("sgd", "momentum"), "--optim_args: 'momentum' is not KEY=VALUE");
  EXPECT_EQ(NameOf("sgd", "momentum=0.9,momentum=0.8"), "--optim_args: 'momentum' is there twice");
  EXPECT_EQ(NameOf("sgd", "nesterov=1"),
            "--optim_args: nesterov needs a momentum above 0 and no dampening");
  EXPECT_EQ(NameOf("sgd", "weight_decay=0.1"),
            "--optim_args: 'weight_decay' is refused: --weight_decay says it, as it does under "
            "transformers");
}

Parameter Make(const char* name, std::vector<int64_t> shape) {
  return {name, shape, ShardSpec::Whole(shape), at::empty(shape), Initializer::Zeros()};
}

TEST(OptimByNameTest, WhichRuleStepsWhat) {
  const RuleSet muon = RulesByName("muon", "", {}).value();
  const RuleSet eight = RulesByName("adamw_8bit", "", {}).value();
  const RuleSet adafactor = RulesByName("adafactor", "", {}).value();
  struct Case {
    const char* name;
    std::vector<int64_t> shape;
    bool muon, eight, adafactor;
  };
  for (const Case& c :
       std::vector<Case>{{"model.embed_tokens.weight", {100, 64}, false, false, true},
                         {"transformer.wte.weight", {100, 64}, false, false, true},
                         {"lm_head.weight", {100, 64}, false, true, true},
                         {"model.layers.0.self_attn.q_proj.weight", {64, 64}, true, true, true},
                         {"model.layers.0.self_attn.k_proj.weight", {16, 64}, true, false, true},
                         {"model.layers.0.self_attn.k_proj.bias", {64}, false, false, false},
                         {"model.norm.weight", {8192}, false, true, false}}) {
    const Parameter parameter = Make(c.name, c.shape);
    EXPECT_EQ(&muon.Of(parameter) == muon.rule.get(), c.muon) << c.name;
    EXPECT_EQ(&eight.Of(parameter) == eight.rule.get(), c.eight) << c.name;
    EXPECT_EQ(&adafactor.Of(parameter) == adafactor.rule.get(), c.adafactor) << c.name;
  }
  EXPECT_TRUE(muon.RestrictsCuts() && eight.RestrictsCuts() && adafactor.RestrictsCuts());
  EXPECT_FALSE(RulesByName("adamw_torch", "state_dtype=bf16", {})->RestrictsCuts());
}

}  // namespace
}  // namespace lathe
