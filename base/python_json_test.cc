#include "lathe/base/python_json.h"

#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>

#include "gtest/gtest.h"

namespace lathe {
namespace {

// The right column is what CPython 3.11's repr() prints.
TEST(PythonFloatTest, EqualsRepr) {
  EXPECT_EQ(PythonFloat(0.0), "0.0");
  EXPECT_EQ(PythonFloat(-0.0), "-0.0");
  EXPECT_EQ(PythonFloat(1), "1.0");
  EXPECT_EQ(PythonFloat(-3), "-3.0");
  EXPECT_EQ(PythonFloat(0.1), "0.1");
  EXPECT_EQ(PythonFloat(0.1 + 0.2), "0.30000000000000004");
  EXPECT_EQ(PythonFloat(5e-05), "5e-05");
  EXPECT_EQ(PythonFloat(4.75e-05), "4.75e-05");
  EXPECT_EQ(PythonFloat(0.0001), "0.0001");
  EXPECT_EQ(PythonFloat(0.00012345), "0.00012345");
  EXPECT_EQ(PythonFloat(123.456), "123.456");
  EXPECT_EQ(PythonFloat(500), "500.0");
  EXPECT_EQ(PythonFloat(1e15), "1000000000000000.0");
  EXPECT_EQ(PythonFloat(9007199254740993.0), "9007199254740992.0");
  EXPECT_EQ(PythonFloat(1e16), "1e+16");
  EXPECT_EQ(PythonFloat(1.5e16), "1.5e+16");
  EXPECT_EQ(PythonFloat(-1e22), "-1e+22");
  EXPECT_EQ(PythonFloat(1e100), "1e+100");
  EXPECT_EQ(PythonFloat(1e-300), "1e-300");
  EXPECT_EQ(PythonFloat(5e-324), "5e-324");
  EXPECT_EQ(PythonFloat(std::numeric_limits<double>::max()), "1.7976931348623157e+308");
  EXPECT_EQ(PythonFloat(4.859375), "4.859375");
  EXPECT_EQ(PythonFloat(INFINITY), "inf");
  EXPECT_EQ(PythonFloat(-INFINITY), "-inf");
  EXPECT_EQ(PythonFloat(NAN), "nan");
}

TEST(PythonFloatTest, GivesTheSameDoubleBack) {
  std::mt19937_64 rng(1);
  for (int trial = 0; trial < 200000; ++trial) {
    const double value = std::bit_cast<double>(rng());
    if (!std::isfinite(value)) continue;
    ASSERT_EQ(std::strtod(PythonFloat(value).c_str(), nullptr), value) << PythonFloat(value);
  }
}

// json.dumps(value, indent=2, sort_keys=True)
TEST(DumpPythonJsonTest, EqualsJsonDumps) {
  nlohmann::json value;
  value["log_history"] = {{{"loss", 2.5}, {"step", 1}}, nlohmann::json::object()};
  value["best_metric"] = nullptr;
  value["empty"] = nlohmann::json::array();
  value["is_world_process_zero"] = true;
  value["total_flos"] = 1e16;
  value["big"] = std::numeric_limits<uint64_t>::max();
  EXPECT_EQ(DumpPythonJson(value, 2), R"({
  "best_metric": null,
  "big": 18446744073709551615,
  "empty": [],
  "is_world_process_zero": true,
  "log_history": [
    {
      "loss": 2.5,
      "step": 1
    },
    {}
  ],
  "total_flos": 1e+16
})");
  EXPECT_EQ(DumpPythonJson(value["log_history"], -1), R"([{"loss": 2.5, "step": 1}, {}])");
}

TEST(DumpPythonJsonTest, OrderedKeepsTheOrder) {
  nlohmann::ordered_json value;
  value["b"] = 1;
  value["a"] = -2;
  EXPECT_EQ(DumpPythonJson(value, -1), R"({"b": 1, "a": -2})");
}

TEST(DumpPythonJsonTest, EscapesAsPythonDoes) {
  const nlohmann::json text =
      std::string("a\"\\\n\r\t\f\b\x01\x7f/ \xc3\xa9 \xe4\xb8\xad \xf0\x9f\x98\x80");
  EXPECT_EQ(DumpPythonJson(text, -1),
            R"("a\"\\\n\r\t\f\b\u0001\u007f/ \u00e9 \u4e2d \ud83d\ude00")");
  EXPECT_EQ(DumpPythonJson(nlohmann::json(std::string("x\xe4\xb8")), -1), R"("x\ufffd\ufffd")");
}

TEST(DumpPythonJsonTest, NonFiniteNumbersAreNamed) {
  EXPECT_EQ(DumpPythonJson(nlohmann::json::array({NAN, INFINITY, -INFINITY}), -1),
            "[NaN, Infinity, -Infinity]");
}

}  // namespace
}  // namespace lathe
