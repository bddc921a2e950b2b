#!/bin/bash
exec python3 tools/checks/checks_test.py
