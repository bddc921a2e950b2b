#ifndef LATHE_BASE_PYTHON_JSON_H_
#define LATHE_BASE_PYTHON_JSON_H_

// JSON text exactly as Python's json.dumps writes it, so that the files we leave
// (trainer_state.json, config.json, train_results.json ...) are byte for byte those that Hugging
// Face would have written from the same values.
//
//   PythonFloat(5e-05);                          // "5e-05"
//   PythonFloat(3);                              // "3.0"
//   DumpPythonJson({{"epoch", 1.0}}, 2);         // "{\n  \"epoch\": 1.0\n}"
//
// The differences to nlohmann's dump() are the floats, whose digits and exponents follow Python's
// repr, the escapes (everything beyond ASCII becomes \uXXXX), and "NaN", "Infinity", "-Infinity".
//
// nlohmann::json keeps keys sorted (sort_keys=True in Python); nlohmann::ordered_json keeps them in
// the order of insertion (Python's default). Pure functions: call from any thread.

#include <string>

#include "nlohmann/json.hpp"

namespace lathe {

// repr(value): the fewest digits that give back the same double.
std::string PythonFloat(double value);

// json.dumps(value, indent=indent). A negative indent gives one line with ", " and ": ".
std::string DumpPythonJson(const nlohmann::json& value, int indent);
std::string DumpPythonJson(const nlohmann::ordered_json& value, int indent);

}  // namespace lathe

#endif  // LATHE_BASE_PYTHON_JSON_H_
