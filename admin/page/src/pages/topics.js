// All topics: found by name, worst first.
import {useState} from 'preact/hooks'
import {html} from '../html.js'
import {CreateTopic} from '../create.js'
import {listQuery} from '../list.js'
import {Head, State} from '../parts.js'
import {usePoll} from '../poll.js'
import {useMayAct} from '../session.js'
import {TopicList} from '../topic_list.js'

export function Topics({parameters}) {
  const poll = usePoll('data/topics', listQuery(parameters))
  const [isOpen, setOpen] = useState(false)
  const mayAct = useMayAct()
  return html`<${Head} title="Topics" poll=${poll}>
      ${mayAct && html`<button type="button" onClick=${() => setOpen(true)}>Create a topic</button>`}
    </${Head}>
    <${State} poll=${poll} />
    ${
      poll.data &&
      html`<${TopicList} data=${poll.data} parameters=${parameters} caption="Topics"
      none="No topics yet. A publish creates its topic." />`
    }
    ${isOpen && html`<${CreateTopic} onClose=${() => setOpen(false)} />`}`
}
