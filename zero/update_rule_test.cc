// Every rule against the implementation that it names, over ten steps (tests/goldens/optimizers),
// and against itself where a parameter is cut or its gradient scaled.
#include "lathe/zero/update_rule.h"

#include <map>
#include <string>
#include <vector>

#include "ATen/ops/full.h"
#include "ATen/ops/zeros.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/checkpoint/model_files.h"
#include "lathe/layers/relative_error.h"
#include "lathe/zero/rule_set.h"

namespace lathe {
namespace {

constexpr int kSteps = 10;

const ModelFiles& Goldens() {
  static const auto& files =
      *new ModelFiles(ModelFiles::Open("tests/goldens/optimizers", "goldens").value());
  return files;
}

at::Tensor Golden(const std::string& name) { return Goldens().Load(name).value(); }

struct Trained {
  at::Tensor weight;
  std::map<std::string, at::Tensor> states;
};

int64_t NumValues(const RuleState& state, at::IntArrayRef shape, int64_t elements) {
  switch (state.extent) {
    case RuleState::Extent::kElement:
      return elements;
    case RuleState::Extent::kBlock:
      return (elements + kStateBlock - 1) / kStateBlock;
    case RuleState::Extent::kRow:
      return elements / shape[shape.size() - 1];
    default:
      return elements / shape[shape.size() - 2];
  }
}

// Ten steps of a golden tensor. `cut`: the update in two calls, of the elements before and after;
// `scale`: gradients are so much larger, and scaled down by the rule.
Trained Train(const UpdateRule& rule, const std::string& name, double rate = 1, int64_t cut = 0,
              double scale = 1, at::ScalarType dtype = at::kFloat) {
  const at::Tensor start = Golden("start." + name);
  const at::Tensor weight = start.to(dtype).reshape({-1}).clone();
  std::vector<at::Tensor> states;
  for (const RuleState& state : rule.states()) {
    states.push_back(
        at::zeros({NumValues(state, start.sizes(), start.numel())}, state.dtype.value_or(dtype)));
  }
  for (int step = 0; step < kSteps; ++step) {
    const at::Tensor grad = Golden(absl::StrCat("grad.", step, ".", name)).to(dtype).mul(scale);
    for (const int64_t begin : {int64_t{0}, cut}) {
      const int64_t end = begin < cut ? cut : weight.numel();
      UpdatePiece piece{.weight = weight.narrow(0, begin, end - begin),
                        .grad = grad.view({-1}).narrow(0, begin, end - begin),
                        .offset = begin,
                        .shape = start.sizes().vec()};
      for (size_t i = 0; i < states.size(); ++i) {
        const bool by_block = rule.states()[i].extent == RuleState::Extent::kBlock;
        const int64_t unit = by_block ? kStateBlock : 1;
        const int64_t first = begin / unit;
        const int64_t last = end == weight.numel() ? states[i].numel() : end / unit;
        piece.states.push_back(states[i].narrow(0, first, last - first));
      }
      rule.Update({piece}, {.learning_rate = rate * 0.02 / (step + 1),
                            .weight_decay = 0.1,
                            .grad_factor = 1 / scale,
                            .step = at::full({1}, step + 1, at::kFloat),
                            .number = step + 1});
      if (cut == 0) break;
    }
  }
  Trained result{.weight = weight.view(start.sizes())};
  for (size_t i = 0; i < states.size(); ++i) result.states[rule.states()[i].name] = states[i];
  return result;
}

void ExpectGolden(const std::string& name, const RuleSet& rules, double rate = 1,
                  const std::vector<std::string>& tensors = {"w0", "w1", "w2"}) {
  for (const std::string& tensor : tensors) {
    const Trained trained = Train(*rules.rule, tensor, rate);
    // Rounding of fp32, in another order.
    EXPECT_LT(RelativeError(trained.weight, Golden(name + "." + tensor)), 1e-6) << name << tensor;
    ASSERT_EQ(trained.states.size(), rules.rule->states().size());
    for (const auto& [state, values] : trained.states) {
      const at::Tensor golden = Golden(absl::StrCat(name, ".", tensor, ".", state)).view({-1});
      EXPECT_LT(RelativeError(values, golden), 1e-6) << name << tensor << state;
    }
  }
}

TEST(UpdateRuleTest, AdamW) { ExpectGolden("adamw", AdamWRules({})); }
TEST(UpdateRuleTest, Adam) { ExpectGolden("adam", AdamRules({})); }
TEST(UpdateRuleTest, Sgd) { ExpectGolden("sgd", SgdRules({})); }
TEST(UpdateRuleTest, Momentum) {
  ExpectGolden("momentum", SgdRules({.momentum = 0.9, .dampening = 0.1}));
}
TEST(UpdateRuleTest, Nesterov) {
  ExpectGolden("nesterov", SgdRules({.momentum = 0.9, .nesterov = true}));
}
TEST(UpdateRuleTest, Lion) { ExpectGolden("lion", LionRules({})); }

TEST(UpdateRuleTest, CutsAndScales) {
  for (const RuleSet& rules :
       {AdamWRules({}), AdamRules({}), SgdRules({.momentum = 0.9}), LionRules({})}) {
    ASSERT_EQ(rules.rule->cuts(), UpdateRule::Cuts::kAnywhere);
    const Trained whole = Train(*rules.rule, "big");
    EXPECT_TRUE(Train(*rules.rule, "big", 1, 32 * 37).weight.equal(whole.weight)) << rules.name;
    // Powers of two scale without rounding.
    EXPECT_TRUE(Train(*rules.rule, "big", 1, 0, 4).weight.equal(whole.weight)) << rules.name;
    const Trained fp64 = Train(*rules.rule, "big", 1, 0, 1, at::kDouble);
    EXPECT_LT(RelativeError(whole.weight.to(at::kDouble), fp64.weight), 1e-5) << rules.name;
    const Trained scaled = Train(*rules.rule, "big", 1, 0, 3, at::kDouble);
    EXPECT_LT(RelativeError(scaled.weight, fp64.weight), 1e-14) << rules.name;
  }
}

}  // namespace
}  // namespace lathe
