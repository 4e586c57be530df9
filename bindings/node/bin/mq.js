#!/usr/bin/env node
'use strict'
// The program `mq`: `npx libmq serve` is a broker.

const {load} = require('../lib/native')

process.exit(load().main(['mq', ...process.argv.slice(2)]))
