#!/usr/bin/env bash
# Installs what the browser tests drive: Debian's Chromium and its driver. Needs root, or sudo.
set -euo pipefail
if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then
  exit 0
fi
if ! command -v apt-get >/dev/null; then
  echo "chromium and chromedriver are missing. Install them with this system's package manager." >&2
  exit 2
fi
run=()
if [ "$(id -u)" -ne 0 ]; then run=(sudo); fi
"${run[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${run[@]}" apt-get install -y -qq --no-install-recommends chromium chromium-driver fonts-dejavu-core
