// Every rule against the implementation that it names, over ten steps (tests/goldens/optimizers),
// and against itself where a parameter is cut or its gradient scaled.
#include "lathe/zero/update_rule.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "ATen/ops/full.h"
#include "ATen/ops/linspace.h"
#include "ATen/ops/zeros.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/checkpoint/model_files.h"
#include "lathe/layers/relative_error.h"
#include "lathe/zero/eight_bit_states.h"
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

// To the bit but for its rounding to bfloat16, which an order of sums can turn over.
TEST(UpdateRuleTest, Muon) {
  ExpectGolden("muon", MuonRules({}, {}), 1, {"w0", "w1"});
  ExpectGolden("muon_rms",
               MuonRules({.nesterov = false, .rate = MuonOptions::Rate::kMatchRmsAdamW}, {}), 1,
               {"w0", "w1"});
}
TEST(UpdateRuleTest, Adafactor) {
  const RuleSet rules = AdafactorRules({});
  ExpectGolden("adafactor", rules, 1, {"w0", "w1"});
  ExpectGolden("adafactor", {.rule = rules.rest}, 1, {"w2"});
}

TEST(UpdateRuleTest, TheMapsAreBitsandbytes) {
  EXPECT_TRUE(DynamicMap(true).equal(Golden("quantile.signed")));
  EXPECT_TRUE(DynamicMap(false).equal(Golden("quantile.unsigned")));
}

// Of 4200 elements, in 17 blocks, of which the last is not full.
TEST(UpdateRuleTest, EightBitStates) {
  const RuleSet adam = WithEightBitStates(AdamWRules({})), lion = WithEightBitStates(LionRules({}));
  const Trained a = Train(*adam.rule, "big"), l = Train(*lion.rule, "big");
  const auto share_differing = [](const at::Tensor& a, const at::Tensor& b) {
    return a.ne(b.view({-1})).to(at::kDouble).mean().item().toDouble();
  };
  // bitsandbytes itself takes a code beside the nearest for 0.2 % of values (make_goldens.py). The
  // other bar is of values halfway between two codes, to which a last digit makes a difference.
  for (const auto& [nearest, weight_bar, codes_bar] :
       {std::tuple<std::string, double, double>{"_nearest", 1e-6, 1e-3}, {"", 5e-3, 2e-2}}) {
    const std::string adamw = "adamw_8bit" + nearest + ".big",
                      lion8 = "lion_8bit" + nearest + ".big";
    EXPECT_LT(RelativeError(a.weight, Golden(adamw)), weight_bar);
    EXPECT_LT(RelativeError(l.weight, Golden(lion8)), weight_bar);
    EXPECT_LE(share_differing(a.states.at("exp_avg_8bit"), Golden(adamw + ".state1")), codes_bar);
    EXPECT_LE(share_differing(a.states.at("exp_avg_sq_8bit"), Golden(adamw + ".state2")),
              codes_bar);
    EXPECT_LE(share_differing(l.states.at("exp_avg_8bit"), Golden(lion8 + ".state1")), codes_bar);
    EXPECT_LT(RelativeError(a.states.at("exp_avg_absmax"), Golden(adamw + ".absmax1")), 1e-6);
    EXPECT_LT(RelativeError(a.states.at("exp_avg_sq_absmax"), Golden(adamw + ".absmax2")), 1e-6);
  }
  EXPECT_TRUE(Train(*adam.rule, "big", 1, 256 * 7).weight.equal(a.weight)) << "cut";
}

TEST(UpdateRuleTest, EightBitsAreNearAndZerosStay) {
  const at::Tensor values = Golden("start.big").view({-1}).clone();
  values.narrow(0, 256, 256).zero_();
  values[600] = 1e4;  // beside it, all else of its block is small
  for (const bool is_signed : {true, false}) {
    const at::Tensor v = is_signed ? values : values.abs();
    const at::Tensor codes = at::zeros({v.numel()}, at::kByte),
                     scales = at::zeros({17}, at::kFloat);
    const at::Tensor untouched = DequantizeBlocks(codes, scales, is_signed, at::kFloat);
    EXPECT_EQ(untouched.abs().max().item().toDouble(), 0);
    QuantizeBlocks(v, is_signed, codes, scales);
    const at::Tensor back = DequantizeBlocks(codes, scales, is_signed, at::kFloat);
    EXPECT_EQ(back.narrow(0, 256, 256).abs().max().item().toDouble(), 0);
    for (int64_t begin = 0; begin < v.numel(); begin += 256) {
      const int64_t length = std::min<int64_t>(256, v.numel() - begin);
      const at::Tensor exact = v.narrow(0, begin, length);
      const double largest = exact.abs().max().item().toDouble();
      // Half the widest gap of the map, by the block's largest.
      const double bound = largest * (is_signed ? 0.0071 : 0.0036);
      EXPECT_LE(back.narrow(0, begin, length).sub(exact).abs().max().item().toDouble(), bound);
    }
    EXPECT_EQ(back[600].item().toDouble(), 1e4);
  }
}

TEST(UpdateRuleTest, Bf16StatesRoundWithoutBias) {
  const RuleSet rules = WithBf16States(AdamWRules({}));
  const Trained whole = Train(*rules.rule, "big"), exact = Train(*AdamWRules({}).rule, "big");
  EXPECT_TRUE(Train(*rules.rule, "big", 1, 32 * 37).weight.equal(whole.weight)) << "cut";
  EXPECT_LT(RelativeError(whole.weight, exact.weight), 2e-3);
  EXPECT_FALSE(whole.weight.equal(exact.weight));
  // A second moment that falls by less than bfloat16 can tell: over many updates by what it should.
  const int64_t n = 4096;
  const at::Tensor weight = at::zeros({n}), grad = at::zeros({n});
  const std::vector<at::Tensor> states = {at::zeros({n}, at::kBFloat16),
                                          at::full({n}, 1, at::kBFloat16)};
  for (int step = 1; step <= 500; ++step) {
    rules.rule->Update({{.weight = weight, .grad = grad, .states = states, .shape = {n}}},
                       {.step = at::full({1}, step, at::kFloat), .number = step});
  }
  const double expected = std::pow(0.999, 500);  // 0.606
  EXPECT_NEAR(states[1].to(at::kDouble).mean().item().toDouble(), expected, 2e-3);
  EXPECT_EQ(states[0].abs().max().item().toDouble(), 0) << "zeros stay";
}

// Least squares with gradients of as much noise as mini batches give (without it, 8 bits hold back
// a slow average: it moves by less than half of what they tell apart). What the loss is above its
// minimum after so many updates.
double Excess(const UpdateRule& rule, double rate) {
  const int64_t width = 64, n = width * width;
  const at::Tensor big = Golden("start.big").view({-1});
  const at::Tensor truth = big.narrow(0, 0, n).view({width, width});
  const at::Tensor weight = at::zeros({n});
  std::vector<at::Tensor> states;
  for (const RuleState& state : rule.states()) {
    states.push_back(
        at::zeros({NumValues(state, {width, width}, n)}, state.dtype.value_or(at::kFloat)));
  }
  const int num_steps = 400;
  for (int step = 1; step <= num_steps; ++step) {
    // Directions of another curvature each, and noise that differs by step.
    const at::Tensor curvature = at::linspace(0.05, 1, width, at::kFloat).unsqueeze(0);
    const at::Tensor error = weight.view({width, width}).sub(truth);
    const at::Tensor grad =
        error.mul(curvature).view({-1}).add(big.roll(step * 977).narrow(0, 0, n), 1.0);
    rule.Update({{.weight = weight, .grad = grad, .states = states, .shape = {width, width}}},
                {.learning_rate = rate * (1 - static_cast<double>(step - 1) / num_steps),
                 .step = at::full({1}, step, at::kFloat),
                 .number = step});
  }
  return weight.sub(truth.reshape({-1})).square().mean().item().toDouble();
}

TEST(UpdateRuleTest, FewBitsLearnAsWell) {
  for (const auto& [plain, rate] : {std::pair(AdamWRules({}), 0.02), {LionRules({}), 0.01}}) {
    const double fp32 = Excess(*plain.rule, rate);
    const double eight = Excess(*WithEightBitStates(plain).rule, rate);
    const double bf16 = Excess(*WithBf16States(plain).rule, rate);
    std::printf("%s: fp32 %.6f, 8 bits %.6f, bf16 %.6f\n", plain.name.c_str(), fp32, eight, bf16);
    ASSERT_LT(fp32, 0.4) << "it must learn: the start is 1";
    EXPECT_NEAR(eight, fp32, 0.04 * fp32);
    EXPECT_NEAR(bf16, fp32, 0.01 * fp32);
  }
}

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
