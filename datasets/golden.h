#ifndef LATHE_DATASETS_GOLDEN_H_
#define LATHE_DATASETS_GOLDEN_H_

// For tests: the cases of one of the JSON files that tests/goldens/datasets/make_goldens.py wrote.

#include <fstream>
#include <stdexcept>
#include <string>

#include "nlohmann/json.hpp"

namespace lathe {

// The cases of tests/goldens/datasets/`name`; throws when there are none.
inline nlohmann::json ReadGolden(const std::string& name) {
  std::ifstream file("tests/goldens/datasets/" + name);
  nlohmann::json cases = nlohmann::json::parse(file);
  if (!cases.is_array() || cases.empty()) throw std::runtime_error(name + " has no cases");
  return cases;
}

}  // namespace lathe

#endif  // LATHE_DATASETS_GOLDEN_H_
