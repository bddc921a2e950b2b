"""layering_test: Bazel itself, asked what some targets reach, confirms that it is nothing forbidden."""

load("//tools:layering.bzl", "UNREACHABLE")

def _pattern(forbidden):
    """The extended regular expression of labels that belong to an entry of UNREACHABLE."""
    if forbidden == "torch":
        return "^@lathe_torch//"
    if ":" in forbidden:
        return "^//%s$$" % forbidden
    return "^//%s[:/]" % forbidden

def layering_test(folder, targets):
    """Tests that `targets`, the libraries of `folder` that others see, do not reach what UNREACHABLE says.

    Args:
      folder: a key of UNREACHABLE
      targets: labels
    """
    name = folder.replace("/", "_")
    native.genquery(
        name = name + "_reaches",
        expression = "deps(set(%s))" % " ".join(targets),
        opts = [
            "--noimplicit_deps",
            "--nohost_deps",
        ],
        scope = targets,
    )
    native.sh_test(
        name = name + "_layering_test",
        size = "small",
        srcs = ["layering_test.sh"],
        args = ["$(location %s_reaches)" % name] + ["'%s'" % _pattern(entry) for entry in UNREACHABLE[folder]],
        data = [name + "_reaches"],
    )
