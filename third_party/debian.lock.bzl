"""Debian 12 packages: name -> [version, sha256]. Written by tools/repin: the names are chosen here, by hand."""

DEBIAN = {
    "fortunes-zh": ["2.98", "211c5ddee59d0ae74ce01cbfd02f7c8714740bae1835d5661eb2254edd739105"],
    "libbenchmark-dev": ["1.7.1-1", "82c9048e75f3d83b3b8a349144d5ca55487eb370b34167ffe12f8060300ed462"],
    "libbenchmark1debian": ["1.7.1-1", "59f0902a880853ef0fc658ecee85da35dd2ab03485a7cf305cad233e8b607621"],
    "libgflags-dev": ["2.2.2-2", "055ca9ee17b57159926eea04ee32da8d3332c4e24e3bf028276d89106a75418a"],
    "libgflags2.2": ["2.2.2-2", "288af17a1d3a0955f56c8347ea81bd33534add8b22c5b1b4771d8ac1c85b5ba0"],
    "libgloo-dev": ["0.0~git20220518.5b14351-3", "80529c9fd8af452faf489e686b94bf87075965c40673803810c4f41634b1e299"],
    "libgmock-dev": ["1.12.1-0.2", "ffe5958a13f30657cb5e5af4e24bfa6ab6b633391f1a945607799192b52b4530"],
    "libgoogle-glog-dev": ["0.6.0-2", "b9f9cb0ac276d12906dc290edc6e3092b0f55381934c013de6fa21722ad7c8da"],
    "libgoogle-glog0v6": ["0.6.0-2", "72bbbd09f325cb770d638a9e2c94eb978f1ae2266c1e7e4b152c8f8acd9970e5"],
    "libgtest-dev": ["1.12.1-0.2", "1dbf34692561ea744d827af133c2266640a2f2cda30abfaa610eed1a7e8609d9"],
    "libicu-dev": ["72.1-3+deb12u1", "08bd4e3f4bd4fc725cf25e739edf0e7df5ac1826bdac9a7d990eea8f93b2d7a0"],
    "libicu72": ["72.1-3+deb12u1", "f7f6f99c6d7b025914df2447fc93e11d22c44c0c8bdd8b6f36691c9e7ddcef88"],
    "liblzma5": ["5.4.1-1+deb12u2", "3d8c29c8c21ec6007635e1b2591edf98b771c9572a085968f47452b33040f384"],
    "libpcre2-dev": ["10.42-1+deb12u2", "420595d97c946994ea72f38ac1103d8bcc1b10385f3d2a2fe2627c52d2beed6e"],
    "libunwind8": ["1.6.2-3", "7b297868682836e4c87be349f17e4a56bc287586e3576503e84a5cb5485ce925"],
    "liburing-dev": ["2.3-3", "3e2c6dbe416995570c4b13087b9e26dbcc53d6d48bce5f74412a00e7defecc21"],
    "r-cran-janeaustenr": ["1.0.0-1", "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95"],
}
