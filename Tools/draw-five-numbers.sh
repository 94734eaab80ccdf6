#!/usr/bin/env bash
# Draws the five numbers of a result as bars.
#
#   ./fedpeat demo --json > demo.json
#   Tools/draw-five-numbers.sh demo.json > docs/images/five-numbers.svg
set -euo pipefail
[ $# -eq 1 ] && [ -r "$1" ] || {
  echo "usage: draw-five-numbers.sh RESULT.json > PICTURE.svg" >&2
  exit 64
}
tr ',{}' '\n\n\n' <"$1" | awk -F: '
  function value(line) { gsub(/[ "]/, "", line); return line }
  {
    key = value($1)
    # The first of each key is the run itself; single seeds may follow.
    if (!(key in found) && $2 ~ /[0-9]/) found[key] = value($2) + 0
  }
  END {
    count = split("fullZeroShot emulatorZeroShot emulatorTuned plugIn fullFineTuning", keys, " ")
    split("full model, as it came|emulator, as it came|emulator, tuned|PLUG-IN: full model with that adapter|full model, all of it tuned on the pooled texts", names, "|")
    for (i = 1; i <= count; i++) {
      if (!(keys[i] in found)) { print "no " keys[i] " in the result" > "/dev/stderr"; exit 65 }
      if (found[keys[i]] > largest) largest = found[keys[i]]
    }
    print "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 " 40 + 34 * count "\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\" role=\"img\" aria-label=\"Perplexity as bars, lower is better\">"
    print "  <rect width=\"720\" height=\"" 40 + 34 * count "\" fill=\"#ffffff\"/>"
    print "  <text x=\"310\" y=\"20\" fill=\"#555\">perplexity on the devices&#8217; held-out texts: lower is better</text>"
    for (i = 1; i <= count; i++) {
      y = 34 * i
      color = keys[i] == "plugIn" ? "#f4a340" : "#9dbfdd"
      width = 330 * found[keys[i]] / largest
      printf "  <text x=\"300\" y=\"%d\" text-anchor=\"end\" fill=\"#222\">%s</text>\n", y + 16, names[i]
      printf "  <rect x=\"310\" y=\"%d\" width=\"%.1f\" height=\"22\" fill=\"%s\"/>\n", y, width, color
      printf "  <text x=\"%.1f\" y=\"%d\" fill=\"#222\">%.2f</text>\n", 316 + width, y + 16, found[keys[i]]
    }
    print "</svg>"
  }'
