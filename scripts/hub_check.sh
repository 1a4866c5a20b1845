#!/usr/bin/env bash
# Checks the published models where there is internet: roberta_base_en and roberta_large_en from Hugging Face and from
# Kaggle. It downloads some 4 GB into the hubs' own caches, and takes some minutes. What is found goes to one file, made
# to be sent: versions, the machine, hashes, figures and times; no paths, no tokens.
#
#     scripts/hub_check.sh [hub_check.txt]
#
# PYTHON says which Python runs it, with pyroberta[hub] installed; python3 otherwise. HUB_CHECK_CASES has other models,
# as a JSON list of scripts/hub_check.py's Case.
set -uo pipefail
report=${1:-hub_check.txt}
"${PYTHON:-python3}" "$(dirname "$0")/hub_check.py" 2>"$report.err" | tee "$report"
failed=${PIPESTATUS[0]}
if ! tail -n 1 "$report" | grep -q 'checks'; then # Python itself broke off
  tail -n 1 "$report.err" | sed "s|$HOME|…|g" | tee -a "$report"
fi
rm -f "$report.err"
echo "the report is $report" >&2
exit "$failed"
