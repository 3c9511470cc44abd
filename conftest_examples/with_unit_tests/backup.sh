#!/bin/bash
# backup.sh FOLDER: pack FOLDER into FOLDER.tar.gz and take it away
set -e
tar czf "$1.tar.gz" "$1"
rm -r "$1"
