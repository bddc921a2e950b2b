"""debian_repository: a Bazel repository made of pinned Debian packages, unpacked, not installed; no root needed.

apt-get fetches, from whatever mirror the machine is configured for. If the machine's package lists are missing or old,
lists private to this repository are fetched and used instead, so the machine is left as it was.
"""

load("//third_party:pypi.bzl", "fail_with_log")

def _private_apt_get(rctx, apt_get):
    """The command of an apt-get that keeps its lists in this repository, so needs no root."""
    rctx.file("apt/status", "")
    for folder in ["state/lists/partial", "cache/archives/partial"]:
        rctx.file("apt/%s/.keep" % folder, "")
    return [
        apt_get,
        "-o",
        "Dir::State=%s" % rctx.path("apt/state"),
        "-o",
        "Dir::State::status=%s" % rctx.path("apt/status"),
        "-o",
        "Dir::Cache=%s" % rctx.path("apt/cache"),
    ]

def _download(rctx, apt_get, name, version):
    """Leaves the package's file in the current folder; falls back on fresh lists; explains what is wrong."""
    download = ["download", "-qq", "%s=%s" % (name, version)]
    if rctx.execute([apt_get] + download, timeout = 1800).return_code == 0:
        return
    private_apt_get = _private_apt_get(rctx, apt_get)
    update = rctx.execute(private_apt_get + ["update", "-qq"], timeout = 600)
    result = rctx.execute(private_apt_get + download, timeout = 1800)
    if result.return_code == 0:
        return
    if update.return_code != 0:
        fail_with_log(rctx, "apt-get cannot download %s %s: try `apt-get update` as root" % (name, version), update)
    if "was not found" in result.stderr or "Unable to locate" in result.stderr:
        fail("Debian no longer has %s %s: run tools/repin, which pins the current version" % (name, version))
    fail_with_log(rctx, "apt-get cannot download %s %s" % (name, version), result)

def _impl(rctx):
    apt_get = rctx.which("apt-get")
    dpkg_deb = rctx.which("dpkg-deb")
    if not apt_get or not dpkg_deb:
        fail("%s: apt-get and dpkg-deb are needed to fetch packages: Lathe builds on Debian 12" % rctx.name)
    for name, pin in rctx.attr.packages.items():
        version, sha256 = pin
        _download(rctx, apt_get, name, version)
        found = [f for f in rctx.path(".").readdir() if f.basename.endswith(".deb")]
        digest = rctx.execute(["sha256sum", found[0]]).stdout.split(" ")[0]
        if digest != sha256:
            fail("%s %s has sha256 %s, but %s is pinned in third_party/debian.lock.bzl" %
                 (name, version, digest, sha256))
        result = rctx.execute([dpkg_deb, "-x", found[0], "."])
        if result.return_code != 0:
            fail_with_log(rctx, "cannot unpack %s" % name, result)
        rctx.delete(found[0])
    rctx.delete("apt")
    rctx.file("BUILD.bazel", rctx.read(rctx.attr.build_file))

debian_repository = repository_rule(
    implementation = _impl,
    attrs = {
        "packages": attr.string_list_dict(doc = "package name -> [version, sha256]"),
        "build_file": attr.label(allow_single_file = True),
    },
)
