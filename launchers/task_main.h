// The main function of a task that trains: flags, launching ranks or being one, logging, exit code.
#ifndef LATHE_LAUNCHERS_TASK_MAIN_H_
#define LATHE_LAUNCHERS_TASK_MAIN_H_

#include "lathe/base/config/flags.h"
#include "lathe/launchers/training_task.h"

namespace lathe {

// Parses the flags into task.mutable_flags() and runs the task, as this process or through those
// that it starts. Ends the process: exit code 0, 75 after a signal (the same command goes on), 2
// after an error, of which a line is printed.
[[noreturn]] void TaskMain(int argc, char** argv, const FlagsOptions& options, TrainingTask& task);

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_TASK_MAIN_H_
