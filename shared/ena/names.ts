/** Looks up the names of ENA's numbers. */
export { type Codes, nameOf, namesOf } from "../bytes/names.ts";
