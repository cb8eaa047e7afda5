#!/usr/bin/env bash
# A hundred thousand frames through `sextant watch`: does it stay as small as it was?
#
#     tests/scripts/watch_soak.sh SEXTANT FILM.mjpeg FOLDER [FRAMES]
#
# The film is repeated as often as needed, with an index whose oldest rows go, thumbnails and metrics. Memory,
# descriptors and threads are sampled every second. It fails where the mean resident memory of the last tenth is more
# than 2 % above that of the first tenth after a warm-up of as many frames, or where descriptors or threads grew (of
# threads the fewest count: the index opens its files side by side for a moment).
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
sextant=$1 film=$2 folder=$3 frames=${4:-100000}
mkdir -p "$folder"
rm -rf "$folder/seen.index" "$folder/watch.prom" "$folder/samples"

forever() { while cat "$film"; do :; done; }

forever 2>/dev/null | "$sextant" watch - --input-rate 25 --fps 0 --motion 0 --labels "a car,an empty car park" \
    --index "$folder/seen.index" --keep-count 500 --thumbnails --metrics "$folder/watch.prom" \
    > "$folder/events.jsonl" 2> "$folder/messages" &
watch=$!
trap 'kill "$watch" 2>/dev/null || true' EXIT

encoded=0
while [ "$encoded" -lt "$frames" ] && kill -0 "$watch" 2>/dev/null; do
    sleep 1
    encoded=$(awk '$1 == "sextant_frames_encoded_total" { print $2 }' "$folder/watch.prom" 2>/dev/null || true)
    encoded=${encoded:-0}
    memory=$(awk '$1 == "VmRSS:" { print $2 }' "/proc/$watch/status")
    descriptors=$(find "/proc/$watch/fd" -mindepth 1 -maxdepth 1 | wc -l)
    threads=$(find "/proc/$watch/task" -mindepth 1 -maxdepth 1 | wc -l)
    echo "$encoded $memory $descriptors $threads" >> "$folder/samples"
done
kill "$watch" && wait "$watch" || { echo "the watch did not end well: $(tail -n 3 "$folder/messages")"; exit 1; }
tail -n 1 "$folder/messages"

awk -v frames="$frames" '
    $1 >= frames / 10 && $1 < frames / 5 { first += $2; firsts++; most_before = max(most_before, $3); threads_before = min(threads_before, $4) }
    $1 >= frames * 9 / 10 { last += $2; lasts++; most_after = max(most_after, $3); threads_after = min(threads_after, $4) }
    function max(a, b) { return a > b ? a : b }
    function min(a, b) { return a && a < b ? a : b }
    END {
        if (!firsts || !lasts) { print "too few samples"; exit 1 }
        growth = 100 * (last / lasts / (first / firsts) - 1)
        printf "resident memory %.0f KB in the second tenth, %.0f KB in the last: %+.2f %%\n", first / firsts, last / lasts, growth
        printf "descriptors %d, then %d; threads %d, then %d\n", most_before, most_after, threads_before, threads_after
        exit growth > 2 || most_after > most_before || threads_after > threads_before
    }' "$folder/samples"
