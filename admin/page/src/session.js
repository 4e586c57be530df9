// The viewer: who the server says it is, and what they may do.
import {createContext} from 'preact'
import {useContext} from 'preact/hooks'

const Session = createContext({me: null})

export const SessionOf = Session.Provider

export const useMe = () => useContext(Session).me

/** Whether actions are shown at all. */
export const useMayAct = () => !useMe()?.read_only
