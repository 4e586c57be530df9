// Lookup servers, and topics that no broker has any more.
import {useState} from 'preact/hooks'
import {html} from '../html.js'
import {act} from '../actions.js'
import {CreateTopic} from '../create.js'
import {Ask} from '../dialog.js'
import {counted} from '../format.js'
import {LookupTable} from '../lookup_table.js'
import {Head, Part, State} from '../parts.js'
import {usePoll} from '../poll.js'
import {useMayAct} from '../session.js'
import {SortedTable} from '../table.js'

export function Lookup() {
  const poll = usePoll('data/lookup')
  const {data} = poll
  const [open, setOpen] = useState(null)
  const mayAct = useMayAct()
  const close = () => setOpen(null)
  const columns = [
    {head: 'Topic', name: true, sort: 'name', value: ({topic}) => topic, cell: ({topic}) => topic},
    {head: 'Channels', cell: ({channels}) => (channels?.length ? channels.join(', ') : html`<span class="soft">none</span>`)},
    mayAct && {
      head: 'Actions',
      cell: ({topic}) =>
        html`<button type="button" class="plain" aria-label=${`Delete topic ${topic}`} onClick=${() => setOpen({topic})}>Delete…</button>`,
    },
  ].filter(Boolean)
  return html`<${Head} title="Lookup" poll=${poll}>
      ${mayAct && html`<button type="button" onClick=${() => setOpen('create')}>Create a topic</button>`}
    </${Head}>
    <${State} poll=${poll} />
    ${
      data &&
      html`<${Part} title="Lookup servers"><${LookupTable} lookups=${data.lookups} /></${Part}>
      <${Part} title="Inactive topics" note="registered at a lookup server, on no broker">
        <${SortedTable} caption="Inactive topics" columns=${columns} rows=${data.inactive} keyOf=${({topic}) => topic} none="None: every registered topic has a broker." />
      </${Part}>`
    }
    ${open === 'create' && html`<${CreateTopic} onClose=${close} />`}
    ${open?.topic && html`<${Delete} topic=${open.topic} row=${data?.inactive.find((each) => each.topic === open.topic)} again=${poll.again} onClose=${close} />`}`
}

function Delete({topic, row, again, onClose}) {
  const run = async () => {
    await act({action: 'delete_topic', topic}, `Deleted topic ${topic}`)
    again()
  }
  return html`<${Ask} title=${`Delete topic ${topic}`} verb="Delete the topic" risk name=${topic} run=${run} onClose=${onClose}
    lost=${[`the registration of the topic and its ${counted(row?.channels?.length ?? 0, 'channel')} at the lookup servers`]} />`
}
