// When this process began, by the kernel's account: what a person waits for starts there, not at
// main.
#ifndef LATHE_BASE_PROCESS_START_H_
#define LATHE_BASE_PROCESS_START_H_

namespace lathe {

// Seconds since the process was started (resolution 10 ms). Where /proc cannot be read: since this
// function's library was loaded. Thread-safe.
double SecondsSinceProcessStart();

}  // namespace lathe

#endif  // LATHE_BASE_PROCESS_START_H_
