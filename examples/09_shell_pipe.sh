#!/bin/sh
# A shell pipe through the command line: lines in, messages through, lines out; filtered by the shell's own tools.
# Law: UNIMSG_URL names the service. A message is acked after its line was written, so a pipe that breaks loses nothing.
set -eu

orders='{"body":{"id":1,"amount":12},"key":"ann"}
{"body":{"id":2,"amount":250},"key":"bob"}
{"body":{"id":3,"amount":900},"key":"ann"}'

printf '%s\n' "$orders" | unimsg publish orders

# What is large goes on to another destination, as it is: the same id, key and headers.
unimsg consume orders --group large --until-idle | grep -E '"amount":[0-9]{3,}' | unimsg publish large-orders

unimsg consume large-orders --group report --raw --until-idle | sort
