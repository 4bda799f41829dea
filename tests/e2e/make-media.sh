#!/bin/sh
# Makes the known picture and sound that the musician's browser sends instead of a camera and a microphone.
#
#   make-media.sh <folder>
#
# musician: blue, 660 Hz, louder on the right; beep 2640 Hz
# Each second begins with a white flash of 100 ms and a beep of 100 ms. Both files are 10 s long and are played in a loop.
set -eu

folder=${1:?"usage: make-media.sh <folder>"}
mkdir -p "$folder"

# make <name> <colour> <box colour> <pixels per second> <tone Hz> <beep Hz> <left gain> <right gain>
make() {
    # Chromium plays .mjpeg files at 30 frames a second, whatever they say.
    ffmpeg -hide_banner -loglevel error -y \
        -f lavfi -i "color=c=$2:s=640x360:r=30:d=10" \
        -f lavfi -i "color=c=$3:s=80x80:r=30:d=10" \
        -f lavfi -i "color=c=white:s=640x360:r=30:d=10" \
        -filter_complex "[0][1]overlay=x='mod(t*$4,560)':y=140[moving];[moving][2]overlay=enable='lt(mod(n,30),3)',format=yuvj420p" \
        -c:v mjpeg -q:v 3 -f mjpeg "$folder/$1.mjpeg"
    tone="0.5*sin(2*PI*$5*t)"
    beep="if(lt(mod(t,1),0.1),0.4*sin(2*PI*$6*t),0)"
    ffmpeg -hide_banner -loglevel error -y \
        -f lavfi -i "aevalsrc='$7*$tone+$beep|$8*$tone+$beep':s=48000:d=10" \
        -c:a pcm_s16le "$folder/$1.wav"
}

make musician 0x1d3f8c 0x7ee0c3 168 660 2640 0.15 0.5
