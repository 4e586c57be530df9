// A real browser for the tests, and what every test holds against it.
'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const {chromium} = require('playwright-core')

const CHROMIUM = process.env.MQ_CHROMIUM ?? '/usr/bin/chromium'
const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]
const AXE = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8')

/** Milliseconds that something may take to show on a busy machine. */
const PATIENCE = 60_000

/** Why there is no browser, or `false`: `skip` of a test. */
const missing = fs.existsSync(CHROMIUM) ? false : `no browser at ${CHROMIUM}`

/** Opens a browser of its own: no cookie or cache of another test. */
async function open({width = 1280, height = 900, colorScheme = 'light', headers} = {}) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'mq-page-'))
  const context = await chromium.launchPersistentContext(folder, {
    executablePath: CHROMIUM,
    headless: true,
    args: ARGUMENTS,
    viewport: {width, height},
    colorScheme,
    extraHTTPHeaders: headers,
  })
  context.setDefaultTimeout(PATIENCE)
  const page = context.pages()[0] ?? (await context.newPage())
  const complaints = []
  const requests = []
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()))
  page.on('pageerror', (error) => complaints.push(error.stack))
  page.on('dialog', (dialog) => {
    complaints.push(`a dialog of the browser: ${dialog.message()}`)
    dialog.dismiss()
  })
  page.on('request', (request) => requests.push(request.url()))
  const close = async () => {
    await context.close()
    fs.rmSync(folder, {recursive: true, force: true})
  }
  return {page, complaints, requests, close}
}

/** Rules of axe-core that the page breaks seriously, as lines. */
async function serious(page) {
  await page.evaluate(AXE)
  const {violations} = await page.evaluate(() => globalThis.axe.run())
  return violations
    .filter(({impact}) => impact === 'serious' || impact === 'critical')
    .map(
      ({id, nodes}) =>
        `${id}: ${nodes
          .map(({target, failureSummary}) => `${target} ${failureSummary}`)
          .slice(0, 3)
          .join('; ')}`,
    )
}

/** Goes to a place of the page and waits for its heading. */
async function visit(page, address, place, heading) {
  await page.goto(address + place)
  await page.getByRole('heading', {level: 1, name: heading, exact: true}).waitFor()
}

/** Waits until text is on the page. */
const sees = (page, text) => page.getByText(text).first().waitFor()

/** Pixels by which the page is wider than its window. */
const overhang = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth)

/** Waits for a condition that the browser does not see. */
async function until(condition, what) {
  const end = Date.now() + PATIENCE
  while (!(await condition())) {
    assert.ok(Date.now() < end, `${what} within ${PATIENCE / 1000} s`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

module.exports = {missing, open, overhang, sees, serious, until, visit}
