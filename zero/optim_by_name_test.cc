#include "lathe/zero/optim_by_name.h"

#include <string>

#include "gtest/gtest.h"

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
  EXPECT_EQ(NameOf("adagrad", ""), "--optim: 'adagrad' is not there");
}

TEST(OptimByNameTest, Arguments) {
  EXPECT_EQ(NameOf("lion_32bit", "momentum=0.9"),
            "--optim_args: --optim lion_32bit has no 'momentum'; it has none");
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

}  // namespace
}  // namespace lathe
