// SIGTERM and SIGINT as a wish that the training loop reads between steps: save, then leave.
#ifndef LATHE_TRAINER_STOP_REQUEST_H_
#define LATHE_TRAINER_STOP_REQUEST_H_

namespace lathe {

// Exit code of a run that was asked to stop and has saved: neither success nor an error. A second
// signal kills at once.
inline constexpr int kStoppedExitCode = 75;

// Installs the handlers (process-wide; called by launchers only).
void InstallStopHandlers();

// Whether a signal has come. Async-signal-safe.
bool StopRequested();

}  // namespace lathe

#endif  // LATHE_TRAINER_STOP_REQUEST_H_
