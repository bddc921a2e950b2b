#include "lathe/tests/parity/pretrain_run.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "gtest/gtest.h"
#include "lathe/checkpoint/safetensors.h"

namespace lathe {
namespace {

std::string ReadText(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  std::stringstream text;
  text << stream.rdbuf();
  return stream ? text.str() : "";
}

// Runs `arguments` with stdout and stderr in `log`. Returns the exit code.
int Execute(std::vector<std::string> arguments, const std::string& log) {
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    const int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  if (pid < 0 || waitpid(pid, &status, 0) != pid) return -1;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

PretrainRun RunPretrain(const std::string& name, const std::vector<std::string>& flags) {
  return RunLauncher("pretrain", name, flags);
}

PretrainRun RunLauncher(const std::string& launcher, const std::string& name,
                        const std::vector<std::string>& flags) {
  std::vector<std::string> all = {"--log_level", "warning",     "--disable_tqdm",
                                  "true",        "--report_to", "none"};
  all.insert(all.end(), flags.begin(), flags.end());
  return RunProgram("launchers/" + launcher, name, all);
}

PretrainRun RunProgram(const std::string& program, const std::string& name,
                       const std::vector<std::string>& flags) {
  PretrainRun run;
  run.folder = testing::TempDir() + name;
  std::filesystem::remove_all(run.folder);
  std::vector<std::string> arguments = {program, "--output_dir", run.folder};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  const std::string log = run.folder + ".log";
  run.exit_code = Execute(arguments, log);
  run.output = ReadText(log);
  run.state = ReadJson(run.folder + "/trainer_state.json");
  return run;
}

std::vector<std::string> GoldenFlags(const std::string& model) {
  const std::string folder = "tests/goldens/parity/";
  return {"--model_name_or_path", folder + "models/" + model,
          "--tokenizer_name",     folder + "tokenizer",
          "--train_files",        folder + "train.jsonl",
          "--validation_files",   folder + "validation.jsonl"};
}

std::vector<std::string> FlagsFromJson(const nlohmann::json& arguments) {
  std::vector<std::string> flags;
  for (const auto& [key, value] : arguments.items()) {
    flags.push_back("--" + key);
    flags.push_back(value.is_string() ? value.get<std::string>() : value.dump());
  }
  return flags;
}

nlohmann::json ReadJson(const std::string& path) {
  const nlohmann::json json =
      nlohmann::json::parse(ReadText(path), nullptr, /*allow_exceptions=*/false);
  return json.is_discarded() ? nlohmann::json(nullptr) : json;
}

std::map<std::string, at::Tensor> ReadWeights(const std::string& file) {
  std::map<std::string, at::Tensor> weights;
  const auto opened = SafetensorsFile::Open(file);
  EXPECT_TRUE(opened.ok()) << opened.status();
  if (!opened.ok()) return weights;
  for (const auto& [name, description] : opened->tensors()) {
    const auto tensor = opened->Load(name);
    EXPECT_TRUE(tensor.ok()) << tensor.status();
    if (tensor.ok()) weights[name] = tensor->to(at::kDouble);
  }
  return weights;
}

std::vector<double> History(const PretrainRun& run, const std::string& key) {
  std::vector<double> values;
  if (!run.state.is_object()) return values;
  for (const nlohmann::json& entry : run.state["log_history"]) {
    if (entry.contains(key)) values.push_back(entry[key].get<double>());
  }
  return values;
}

}  // namespace lathe
