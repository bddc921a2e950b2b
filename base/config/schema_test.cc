#include "lathe/base/config/schema.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lathe/base/config/config_test.pb.h"

namespace lathe {
namespace {

TEST(ConfigSchemaTest, FlattensGroupsInOrder) {
  const absl::StatusOr<ConfigSchema> schema = ConfigSchema::Create(TestConfig::descriptor());
  ASSERT_TRUE(schema.ok()) << schema.status();
  EXPECT_EQ(schema->fields().front().path(), "model.config_name");
  EXPECT_EQ(schema->Find("learning-rate")->path(), "training.learning_rate");
  EXPECT_EQ(schema->Find("inner_rank")->path(), "training.inner.inner_rank");
  EXPECT_EQ(schema->Find("dtype"), schema->Find("torch_dtype"));
  EXPECT_EQ(schema->Find("training"), nullptr);
  EXPECT_EQ(schema->Find("nothing"), nullptr);
}

TEST(ConfigSchemaTest, ParentsAreFoundAndMade) {
  const absl::StatusOr<ConfigSchema> schema = ConfigSchema::Create(TestConfig::descriptor());
  TestConfig config;
  const ConfigField* field = schema->Find("inner_rank");
  // Reading does not create.
  EXPECT_EQ(field->Parent(config).GetDescriptor(), TestInnerArguments::descriptor());
  EXPECT_FALSE(config.has_training());
  EXPECT_EQ(field->MutableParent(&config), config.mutable_training()->mutable_inner());
}

std::string Broken(const google::protobuf::Descriptor* message) {
  return std::string(ConfigSchema::Create(message).status().message());
}

TEST(ConfigSchemaTest, BrokenRulesAreNamed) {
  EXPECT_EQ(Broken(TestNoHelp::descriptor()), "lathe.TestNoHelp.x has no (lathe.flag).help");
  EXPECT_EQ(Broken(TestReserved::descriptor()),
            "lathe.TestReserved: 'config' is reserved for --config");
  EXPECT_EQ(Broken(TestTwice::descriptor()),
            "lathe.TestTwice: two fields or groups are called 'inner_rank'");
  EXPECT_EQ(Broken(TestFloat::descriptor()),
            "lathe.TestFloat.x is none of bool, int32, int64, double, string, message");
  EXPECT_EQ(Broken(TestBoolList::descriptor()), "lathe.TestBoolList.x is a list of bools");
  EXPECT_EQ(Broken(TestRatioOfInteger::descriptor()),
            "lathe.TestRatioOfInteger.x is a ratio but no double");
  EXPECT_EQ(Broken(TestMessageList::descriptor()), "lathe.TestMessageList.x is a list of messages");
}

}  // namespace
}  // namespace lathe
