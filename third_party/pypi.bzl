"""pypi_repository: a Bazel repository made of pinned Python packages (wheels or source archives).

pip fetches, so mirrors and proxies are configured where they always are. Nothing is installed and no package's
requirements are followed; every file must have the pinned sha256.
"""

def fail_with_log(rctx, what, result):
    log = (result.stdout + "\n" + result.stderr).strip().split("\n")
    fail("%s: %s\n%s" % (rctx.name, what, "\n".join(log[-15:])))

def pip_download(rctx, python, package, version, sha256, kind, into):
    """Downloads one pinned package into the folder `into`, which holds nothing else afterwards."""
    requirements = "%s/requirements.txt" % into
    rctx.file(requirements, "%s==%s --hash=sha256:%s\n" % (package, version, sha256))
    args = [python, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    if kind == "sdist":
        args += ["--no-binary", package]
    else:
        # The wheel is the same whichever Python runs pip.
        args += ["--only-binary", ":all:", "--python-version", "311", "--implementation", "cp"]
        args += ["--abi", "cp311", "--abi", "abi3", "--abi", "none"]
        for platform in ["manylinux_2_28", "manylinux_2_27", "manylinux_2_25", "manylinux_2_17", "manylinux2014"]:
            args += ["--platform", platform + "_x86_64"]
    args += ["--require-hashes", "--requirement", requirements, "--dest", into]
    result = rctx.execute(args, timeout = 3600)
    if result.return_code != 0:
        fail_with_log(rctx, "pip cannot download %s %s" % (package, version), result)
    rctx.delete(requirements)

def _impl(rctx):
    python = rctx.which("python3")
    if not python:
        fail("%s: python3 (with pip) is needed to fetch packages: install python3-pip" % rctx.name)
    for name, pin in rctx.attr.packages.items():
        version, sha256, kind = pin
        pip_download(rctx, python, name, version, sha256, kind, "download")
        archives = rctx.path("download").readdir()
        strip = rctx.attr.strip_components if kind == "sdist" else 0
        result = rctx.execute(
            [python, rctx.path(Label("//third_party/fetch:unpack.py")), archives[0], ".", str(strip)] +
            rctx.attr.files,
            timeout = 3600,
        )
        if result.return_code != 0:
            fail_with_log(rctx, "cannot unpack %s" % name, result)
        rctx.delete("download")
    rctx.file("BUILD.bazel", rctx.read(rctx.attr.build_file))

pypi_repository = repository_rule(
    implementation = _impl,
    attrs = {
        "packages": attr.string_list_dict(doc = "package name -> [version, sha256, wheel or sdist]"),
        "files": attr.string_list(doc = "globs of the files to unpack; with a leading '!', not to unpack"),
        "strip_components": attr.int(default = 1, doc = "leading folders to drop from a source archive's paths"),
        "build_file": attr.label(allow_single_file = True),
    },
)
