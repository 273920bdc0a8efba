/** Numbers to names: the tables are ENA's, the looking up is everybody's. */
export { type Codes, nameOf, namesOf } from "../bytes/names.ts";
