// A library to preload that kills a process, or makes a call fail, at a chosen call that changes
// the file system below a chosen folder. A test runs a program once for every such call and looks
// at what is left.
//
//   LD_PRELOAD=.../kill_at_call.so LATHE_FAULT_PATH=/tmp/out LATHE_FAULT_CALL=7 ./program
//
// Environment:
//   LATHE_FAULT_PATH    calls on files and folders below this absolute path are counted; nothing
//   happens
//                       without it
//   LATHE_FAULT_CALL    which counted call is hit, from 1; 0 or absent: only count
//   LATHE_FAULT_ACTION  kill       SIGKILL before the call (default)
//                       kill_after SIGKILL after the call
//                       kill_half  SIGKILL after half of a write; before any other call
//                       enospc     from this call on no space is left: what writes or makes
//                       something
//                                  fails; removing still works (a disk that is full and stays so)
//                       eio        this call fails with EIO, later ones work
//                       hang       the thread stays in the call for ever; the others go on
//   LATHE_FAULT_OPS     count only these calls: a comma-separated list out of write, fsync, rename,
//                       truncate, allocate, mkdir, open (that makes a file), unlink, rmdir; default
//                       all
//   LATHE_FAULT_ONLY_IF NAME=VALUE: work only in processes that have this environment variable,
//   e.g.
//                       RANK=1
//   LATHE_FAULT_LOG     a file (not below LATHE_FAULT_PATH) that gets a line "NUMBER CALL PATH" per
//   counted
//                       call, appended
//
// Every process counts for itself, all its threads together; one that was forked starts anew, with
// the environment that it has at its first call. Only calls through libc's symbols are seen: not
// the writes that stdio's FILE makes inside libc.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum Action { kKill, kKillAfter, kKillHalf, kEnospc, kEio, kHang };

// What a call must do instead of, or besides, its work.
enum Verdict { kPass, kFail, kDieAfter, kDieHalf };

static pthread_mutex_t configure_mutex = PTHREAD_MUTEX_INITIALIZER;
static atomic_int configured_process;
static const char* folder;
static size_t folder_length;
static long hit_call;
static enum Action action;
static const char* operations;
static int log_descriptor = -1;
static atomic_long num_calls;

static void Die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

static void ReadEnvironment(void) {
  folder = NULL;
  atomic_store(&num_calls, 0);
  const char* const only_if = getenv("LATHE_FAULT_ONLY_IF");
  if (only_if != NULL) {
    char name[128];
    const char* const equals = strchr(only_if, '=');
    if (equals == NULL || (size_t)(equals - only_if) >= sizeof name) return;
    memcpy(name, only_if, equals - only_if);
    name[equals - only_if] = 0;
    const char* const value = getenv(name);
    if (value == NULL || strcmp(value, equals + 1) != 0) return;
  }
  folder = getenv("LATHE_FAULT_PATH");
  if (folder == NULL) return;
  folder_length = strlen(folder);
  while (folder_length > 1 && folder[folder_length - 1] == '/') --folder_length;
  operations = getenv("LATHE_FAULT_OPS");
  const char* const call = getenv("LATHE_FAULT_CALL");
  hit_call = call == NULL ? 0 : atol(call);
  const char* const name = getenv("LATHE_FAULT_ACTION");
  if (name == NULL || strcmp(name, "kill") == 0) {
    action = kKill;
  } else if (strcmp(name, "kill_after") == 0) {
    action = kKillAfter;
  } else if (strcmp(name, "kill_half") == 0) {
    action = kKillHalf;
  } else if (strcmp(name, "hang") == 0) {
    action = kHang;
  } else if (strcmp(name, "enospc") == 0) {
    action = kEnospc;
  } else if (strcmp(name, "eio") == 0) {
    action = kEio;
  } else {
    static const char message[] = "kill_at_call: unknown LATHE_FAULT_ACTION\n";
    syscall(SYS_write, 2, message, sizeof message - 1);
    _exit(125);
  }
  const char* const log = getenv("LATHE_FAULT_LOG");
  if (log != NULL) {
    log_descriptor =
        (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  }
}

static void Configure(void) {
  const int process = (int)getpid();
  if (atomic_load(&configured_process) == process) return;
  pthread_mutex_lock(&configure_mutex);
  if (atomic_load(&configured_process) != process) {
    ReadEnvironment();
    atomic_store(&configured_process, process);
  }
  pthread_mutex_unlock(&configure_mutex);
}

static int IsListed(const char* operation) {
  if (operations == NULL) return 1;
  const size_t length = strlen(operation);
  for (const char* at = operations; (at = strstr(at, operation)) != NULL; at += length) {
    const int starts = at == operations || at[-1] == ',';
    if (starts && (at[length] == 0 || at[length] == ',')) return 1;
  }
  return 0;
}

// Counts a call on an absolute path and says what is to happen to it.
static enum Verdict Judge(const char* operation, const char* path) {
  if (strncmp(path, folder, folder_length) != 0 ||
      (path[folder_length] != '/' && path[folder_length] != 0)) {
    return kPass;
  }
  if (!IsListed(operation)) return kPass;
  const long number = atomic_fetch_add(&num_calls, 1) + 1;
  if (log_descriptor >= 0) {
    char line[PATH_MAX + 64];
    const int length = snprintf(line, sizeof line, "%ld %s %s\n", number, operation, path);
    syscall(SYS_write, log_descriptor, line, (size_t)length);
  }
  if (hit_call <= 0 || number < hit_call) return kPass;
  if (action == kEnospc) {
    if (strcmp(operation, "unlink") == 0 || strcmp(operation, "rmdir") == 0) return kPass;
    errno = ENOSPC;
    return kFail;
  }
  if (number != hit_call) return kPass;
  switch (action) {
    case kKillAfter:
      return kDieAfter;
    case kKillHalf:
      if (strcmp(operation, "write") == 0) return kDieHalf;
      Die();
      return kPass;
    case kEio:
      errno = EIO;
      return kFail;
    case kHang:
      for (;;) pause();
    default:
      Die();
      return kPass;
  }
}

static enum Verdict JudgeDescriptor(const char* operation, int descriptor) {
  Configure();
  if (folder == NULL) return kPass;
  char link[64];
  char path[PATH_MAX];
  const int saved = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  errno = saved;
  if (length < 0) return kPass;
  path[length] = 0;
  return Judge(operation, path);
}

// `directory` is AT_FDCWD or a descriptor, as in openat.
static enum Verdict JudgePath(const char* operation, int directory, const char* path) {
  Configure();
  if (folder == NULL || path == NULL) return kPass;
  if (path[0] == '/') return Judge(operation, path);
  char link[64] = "/proc/self/cwd";
  char full[2 * PATH_MAX];
  if (directory != AT_FDCWD) snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
  const int saved = errno;
  const ssize_t length = readlink(link, full, PATH_MAX - 1);
  errno = saved;
  if (length < 0 || strlen(path) >= PATH_MAX) return kPass;
  full[length] = '/';
  strcpy(full + length + 1, path);
  return Judge(operation, full);
}

// The function of that name in libc.
#define REAL(name)               \
  static __typeof__(name)* real; \
  if (real == NULL) real = (__typeof__(name)*)dlsym(RTLD_NEXT, #name);

#define FINISH(verdict, call)               \
  do {                                      \
    if ((verdict) == kFail) return -1;      \
    const __typeof__(call) result = (call); \
    if ((verdict) == kDieAfter) Die();      \
    return result;                          \
  } while (0)

#define FINISH_WRITE(verdict, call, half_call) \
  do {                                         \
    if ((verdict) == kDieHalf) {               \
      (void)!(half_call);                      \
      Die();                                   \
    }                                          \
    FINISH(verdict, call);                     \
  } while (0)

ssize_t write(int descriptor, const void* bytes, size_t count) {
  REAL(write);
  const enum Verdict verdict = JudgeDescriptor("write", descriptor);
  FINISH_WRITE(verdict, real(descriptor, bytes, count), real(descriptor, bytes, count / 2));
}

ssize_t pwrite(int descriptor, const void* bytes, size_t count, off_t offset) {
  REAL(pwrite);
  const enum Verdict verdict = JudgeDescriptor("write", descriptor);
  FINISH_WRITE(verdict, real(descriptor, bytes, count, offset),
               real(descriptor, bytes, count / 2, offset));
}

ssize_t pwrite64(int descriptor, const void* bytes, size_t count, off64_t offset) {
  REAL(pwrite64);
  const enum Verdict verdict = JudgeDescriptor("write", descriptor);
  FINISH_WRITE(verdict, real(descriptor, bytes, count, offset),
               real(descriptor, bytes, count / 2, offset));
}

ssize_t writev(int descriptor, const struct iovec* parts, int count) {
  REAL(writev);
  const enum Verdict verdict = JudgeDescriptor("write", descriptor);
  FINISH_WRITE(verdict, real(descriptor, parts, count), real(descriptor, parts, count / 2));
}

ssize_t pwritev(int descriptor, const struct iovec* parts, int count, off_t offset) {
  REAL(pwritev);
  const enum Verdict verdict = JudgeDescriptor("write", descriptor);
  FINISH_WRITE(verdict, real(descriptor, parts, count, offset),
               real(descriptor, parts, count / 2, offset));
}

int fsync(int descriptor) {
  REAL(fsync);
  const enum Verdict verdict = JudgeDescriptor("fsync", descriptor);
  FINISH(verdict, real(descriptor));
}

int fdatasync(int descriptor) {
  REAL(fdatasync);
  const enum Verdict verdict = JudgeDescriptor("fsync", descriptor);
  FINISH(verdict, real(descriptor));
}

int ftruncate(int descriptor, off_t length) {
  REAL(ftruncate);
  const enum Verdict verdict = JudgeDescriptor("truncate", descriptor);
  FINISH(verdict, real(descriptor, length));
}

int ftruncate64(int descriptor, off64_t length) {
  REAL(ftruncate64);
  const enum Verdict verdict = JudgeDescriptor("truncate", descriptor);
  FINISH(verdict, real(descriptor, length));
}

int fallocate(int descriptor, int mode, off_t offset, off_t length) {
  REAL(fallocate);
  const enum Verdict verdict = JudgeDescriptor("allocate", descriptor);
  FINISH(verdict, real(descriptor, mode, offset, length));
}

int fallocate64(int descriptor, int mode, off64_t offset, off64_t length) {
  REAL(fallocate64);
  const enum Verdict verdict = JudgeDescriptor("allocate", descriptor);
  FINISH(verdict, real(descriptor, mode, offset, length));
}

// These return the error instead of setting errno.
int posix_fallocate(int descriptor, off_t offset, off_t length) {
  REAL(posix_fallocate);
  const enum Verdict verdict = JudgeDescriptor("allocate", descriptor);
  if (verdict == kFail) return errno;
  FINISH(verdict, real(descriptor, offset, length));
}

int posix_fallocate64(int descriptor, off64_t offset, off64_t length) {
  REAL(posix_fallocate64);
  const enum Verdict verdict = JudgeDescriptor("allocate", descriptor);
  if (verdict == kFail) return errno;
  FINISH(verdict, real(descriptor, offset, length));
}

int rename(const char* from, const char* to) {
  REAL(rename);
  const enum Verdict verdict = JudgePath("rename", AT_FDCWD, to);
  FINISH(verdict, real(from, to));
}

int renameat(int from_directory, const char* from, int to_directory, const char* to) {
  REAL(renameat);
  const enum Verdict verdict = JudgePath("rename", to_directory, to);
  FINISH(verdict, real(from_directory, from, to_directory, to));
}

int renameat2(int from_directory, const char* from, int to_directory, const char* to,
              unsigned int flags) {
  REAL(renameat2);
  const enum Verdict verdict = JudgePath("rename", to_directory, to);
  FINISH(verdict, real(from_directory, from, to_directory, to, flags));
}

int mkdir(const char* path, mode_t mode) {
  REAL(mkdir);
  const enum Verdict verdict = JudgePath("mkdir", AT_FDCWD, path);
  FINISH(verdict, real(path, mode));
}

int unlink(const char* path) {
  REAL(unlink);
  const enum Verdict verdict = JudgePath("unlink", AT_FDCWD, path);
  FINISH(verdict, real(path));
}

int unlinkat(int directory, const char* path, int flags) {
  REAL(unlinkat);
  const enum Verdict verdict =
      JudgePath((flags & AT_REMOVEDIR) != 0 ? "rmdir" : "unlink", directory, path);
  FINISH(verdict, real(directory, path, flags));
}

int rmdir(const char* path) {
  REAL(rmdir);
  const enum Verdict verdict = JudgePath("rmdir", AT_FDCWD, path);
  FINISH(verdict, real(path));
}

int remove(const char* path) {
  REAL(remove);
  const enum Verdict verdict = JudgePath("unlink", AT_FDCWD, path);
  FINISH(verdict, real(path));
}

// Only opens that may make a file change something.
static enum Verdict JudgeOpen(int directory, const char* path, int flags) {
  return (flags & O_CREAT) != 0 ? JudgePath("open", directory, path) : kPass;
}

static mode_t ModeArgument(int flags, va_list arguments) {
  return (flags & (O_CREAT | __O_TMPFILE)) != 0 ? (mode_t)va_arg(arguments, int) : 0;
}

#define DEFINE_OPEN(name)                                          \
  int name(const char* path, int flags, ...) {                     \
    REAL(name);                                                    \
    va_list arguments;                                             \
    va_start(arguments, flags);                                    \
    const mode_t mode = ModeArgument(flags, arguments);            \
    va_end(arguments);                                             \
    const enum Verdict verdict = JudgeOpen(AT_FDCWD, path, flags); \
    FINISH(verdict, real(path, flags, mode));                      \
  }

#define DEFINE_OPENAT(name)                                         \
  int name(int directory, const char* path, int flags, ...) {       \
    REAL(name);                                                     \
    va_list arguments;                                              \
    va_start(arguments, flags);                                     \
    const mode_t mode = ModeArgument(flags, arguments);             \
    va_end(arguments);                                              \
    const enum Verdict verdict = JudgeOpen(directory, path, flags); \
    FINISH(verdict, real(directory, path, flags, mode));            \
  }

DEFINE_OPEN(open)
DEFINE_OPEN(open64)
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)
