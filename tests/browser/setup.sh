#!/usr/bin/env bash
# Playwright for Python, the accessibility rules of axe, and a Chromium where there is none yet, for the tests of the page.  usage: setup.sh FOLDER
set -euo pipefail
folder=$1
python=${PYTHON:-python3}
"$python" -m pip install --quiet --upgrade --target "$folder" 'playwright>=1.50' axe-playwright-python==0.1.8

for name in chromium chromium-browser google-chrome google-chrome-stable; do
  if command -v "$name" > /dev/null; then
    exit 0
  fi
done
# Elsewhere (Ubuntu) the package of that name is not the browser.
if [ "$(id -u)" = 0 ] && grep -qs '^ID=debian$' /etc/os-release; then
  apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends chromium && exit 0
fi
libraries=()
[ "$(id -u)" = 0 ] && libraries=(--with-deps)
PYTHONPATH=$folder "$python" -m playwright install "${libraries[@]}" chromium ||
  echo "There is no Chromium here and none could be installed: the tests of the page will be skipped (on CI they fail)."
