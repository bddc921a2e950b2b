"""pypi_repository: a Bazel repository made of pinned Python packages (wheels or source archives).

pip fetches, so mirrors and proxies are configured where they always are. Nothing is installed and no package's
requirements are followed; every file must have the pinned sha256. pip asks a source archive for its metadata, which runs
its set-up script; the packages that this needs (build_packages) are pinned too.
"""

def fail_with_log(rctx, what, result):
    log = (result.stdout + "\n" + result.stderr).strip().split("\n")
    fail("%s: %s\n%s" % (rctx.name, what, "\n".join(log[-15:])))

def _pip_download(rctx, package, pin, into, python_path = ""):
    """Downloads one pinned package into the folder `into` and returns its path."""
    version, sha256, kind = pin
    requirements = "%s/requirements.txt" % into
    rctx.file(requirements, "%s==%s --hash=sha256:%s\n" % (package, version, sha256))
    args = ["python3", "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    if kind == "sdist":
        args += ["--no-binary", package, "--no-build-isolation"]
    else:
        # The wheel is the same whichever Python runs pip.
        args += ["--only-binary", ":all:", "--python-version", "311", "--implementation", "cp"]
        args += ["--abi", "cp311", "--abi", "abi3", "--abi", "none"]
        for platform in ["manylinux_2_28", "manylinux_2_27", "manylinux_2_25", "manylinux_2_18", "manylinux2014", "manylinux2010"]:
            args += ["--platform", platform + "_x86_64"]
    args += ["--require-hashes", "--requirement", requirements, "--dest", into]
    environment = {"PYTHONPATH": str(rctx.path(python_path))} if python_path else {}
    result = rctx.execute(args, timeout = 3600, environment = environment)
    if result.return_code != 0:
        fail_with_log(rctx, "pip cannot download %s %s" % (package, version), result)
    rctx.delete(requirements)
    return rctx.path(into).readdir()[0]

def _unpack(rctx, archive, into, strip = 0, files = []):
    script = rctx.path(Label("//third_party/fetch:unpack.py"))
    result = rctx.execute(["python3", script, archive, into, str(strip)] + files, timeout = 3600)
    if result.return_code != 0:
        fail_with_log(rctx, "cannot unpack %s" % archive, result)
    rctx.delete(archive)

def _impl(rctx):
    if not rctx.which("python3"):
        fail("%s: python3 (with pip) is needed to fetch packages: install python3-pip" % rctx.name)
    for name, pin in rctx.attr.build_packages.items():
        _unpack(rctx, _pip_download(rctx, name, pin, "download"), "build_packages")
    for name, pin in rctx.attr.packages.items():
        archive = _pip_download(rctx, name, pin, "download", "build_packages" if pin[2] == "sdist" else "")
        _unpack(rctx, archive, ".", rctx.attr.strip_components if pin[2] == "sdist" else 0, rctx.attr.files)
    rctx.delete("build_packages")
    rctx.delete("download")
    rctx.file("BUILD.bazel", rctx.read(rctx.attr.build_file))

pypi_repository = repository_rule(
    implementation = _impl,
    attrs = {
        "packages": attr.string_list_dict(doc = "package name -> [version, sha256, wheel or sdist]"),
        "build_packages": attr.string_list_dict(doc = "like packages: what source archives need to tell their metadata"),
        "files": attr.string_list(doc = "globs of the files to unpack; with a leading '!', not to unpack"),
        "strip_components": attr.int(default = 1, doc = "leading folders to drop from a source archive's paths"),
        "build_file": attr.label(allow_single_file = True),
    },
)
