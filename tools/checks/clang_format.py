"""The format check, with the pinned clang-format."""

import subprocess

from checks import source as files


def check(cc_files, fix, problems):
    bazel = str(files.ROOT / "bazelw")
    target = "//third_party/clang_format"
    built = subprocess.run([bazel, "build", "--noshow_progress", "--ui_event_filters=-info", target],
                           cwd=files.ROOT, capture_output=True, text=True)
    if built.returncode != 0:
        problems.error(target, "clang-format cannot be fetched:\n" + built.stderr)
        return
    base = subprocess.run([bazel, "info", "output_base"], cwd=files.ROOT, capture_output=True, text=True, check=True)
    program = base.stdout.strip() + "/external/lathe_clang_format/clang_format/data/bin/clang-format"
    mode = ["-i"] if fix else ["--dry-run", "--ferror-limit=1"]
    paths = [file.path for file in cc_files]
    if not paths:
        return
    result = subprocess.run([program, *mode, "--style=file", *paths], cwd=files.ROOT, capture_output=True, text=True)
    for line in result.stderr.splitlines():
        if "-Wclang-format-violations" in line:
            problems.error(line.split(": ")[0], "not formatted; `tools/presubmit --fix` does it")
    if result.returncode != 0 and not result.stderr:
        problems.error(program, "clang-format failed")
